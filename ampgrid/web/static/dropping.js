// The files of what was dropped, also of whole directories.

const read = (reader) => new Promise((done, failed) => reader.readEntries(done, failed));
const fileOf = (entry) => new Promise((done, failed) => entry.file(done, failed));

async function walk(entry, above, found) {
  const path = [...above, entry.name];
  if (entry.isFile) {
    found.push({ file: await fileOf(entry), path });
    return;
  }
  const reader = entry.createReader();
  // Each call gives some of them; none means that it was all.
  for (let some = await read(reader); some.length; some = await read(reader)) {
    for (const each of some) await walk(each, path, found);
  }
}

/** Return {file, path} of everything in a drop. */
export async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, path: [file.name] }));
  const found = [];
  for (const entry of entries) await walk(entry, [], found);
  return found;
}
