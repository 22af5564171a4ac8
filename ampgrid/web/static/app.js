// What scripts add to the pages. Every page works without any of it.
import { watchChecks } from "./checks.js";
import { watchCopies } from "./copying.js";
import { watchForms } from "./dialog.js";
import { watchLive } from "./live.js";
import { watchMenus } from "./menus.js";
import { localTimes } from "./page.js";
import { drawPlots } from "./plots.js";
import { watchPreviews } from "./preview.js";
import { watchTheme } from "./themes.js";
import { watchUploads } from "./uploads.js";

localTimes(document);
watchTheme();
watchMenus();
watchForms();
watchCopies();
watchPreviews();
watchChecks();
watchUploads();
watchLive(drawPlots);
