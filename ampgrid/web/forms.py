"""Forms that browsers send, read while they come in: fields in memory, files in the spool."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qsl

from attrs import field, frozen
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from ampgrid.immutable import Uploadable
from ampgrid.web.bodies import TEXT_BYTES, Flow, TextBody
from ampgrid.web.errors import BadRequestError, TooLargeError
from ampgrid.web.spool import Keeping, SpoolRoom

MOST_FIELDS = 100
#: The longest field that is no file, bytes.
MOST_FIELD_BYTES = 64 * 1024
MOST_FILES = 100


@frozen
class FormFile:
    """A file of a form.

    Attributes:
        name: as the browser tells it, without what stands before the last slash; may be empty.
        source: what can be uploaded; the request closes it.
    """

    name: str
    source: Uploadable = field(repr=False)


def is_form(content_type: str) -> bool:
    """Tell whether a content type is that of a form."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind in {"multipart/form-data", "application/x-www-form-urlencoded"}


class FieldsForm:
    """A form without files (``application/x-www-form-urlencoded``)."""

    def __init__(self) -> None:
        self._text = TextBody(TEXT_BYTES)
        self.fields: dict[str, str] = {}
        self.files: list[FormFile] = []

    def add(self, data: bytes) -> None:
        """Keep bytes."""
        self._text.add(data)

    async def complete(self) -> None:
        """Read the fields."""
        try:
            pairs = parse_qsl(
                self._text.text,
                keep_blank_values=True,
                errors="strict",
                max_num_fields=MOST_FIELDS,
            )
        except ValueError:
            raise BadRequestError("the form cannot be read") from None
        self.fields = {}
        for name, value in pairs:
            self.fields.setdefault(name, value)

    def close(self) -> None:
        """Let go of it."""
        self._text.close()


class FilesForm:
    """A form with files (``multipart/form-data``).

    Args:
        content_type: of the request, with the boundary.
        room: where files are kept.
        flow: of the connection.

    Raises:
        BadRequestError: it has no boundary.
    """

    def __init__(self, content_type: str, room: SpoolRoom, flow: Flow) -> None:
        boundary = parse_options_header(content_type)[1].get("boundary", "")
        try:
            self._parser = PushMultipartParser(
                boundary, max_header_size=4_096, max_segment_count=MOST_FIELDS + MOST_FILES
            )
        except (ValueError, MultipartError):
            raise BadRequestError("the form has no usable boundary") from None
        self._room = room
        self._flow = flow
        self._part: _Part | None = None
        self._kept: list[_Part] = []
        self.fields: dict[str, str] = {}
        self.files: list[FormFile] = []

    def add(self, data: bytes) -> None:
        """Read on."""
        try:
            self._take(self._parser.parse(bytes(data)))
        except (MultipartError, UnicodeDecodeError) as error:
            raise BadRequestError("the form cannot be read") from error

    def _take(self, events: Iterable[MultipartSegment | bytes | bytearray | None]) -> None:
        for event in events:
            if isinstance(event, MultipartSegment):
                self._begin(event)
            elif event is None:
                self._end()
            elif self._part is not None:
                self._part.add(bytes(event))

    def _begin(self, segment: MultipartSegment) -> None:
        is_file = segment.filename is not None
        if sum(part.is_file for part in self._kept) >= MOST_FILES:
            raise TooLargeError(f"a form has {MOST_FILES} files at most")
        flow = self._flow
        keeping = Keeping(
            self._room,
            flow.pause,
            flow.resume,
            flow.fail,
            None if is_file else MOST_FIELD_BYTES,
        )
        self._part = _Part(segment.name or "", segment.filename, keeping)
        self._kept.append(self._part)

    def _end(self) -> None:
        self._part = None

    async def complete(self) -> None:
        """Wait until all files are kept."""
        try:
            self._parser.close()
        except MultipartError as error:
            raise BadRequestError("the form is cut short") from error
        for part in self._kept:
            whole = await part.keeping.whole()
            if part.filename is not None:
                self.files.append(FormFile(_last_name(part.filename), whole))
                continue
            try:
                value = whole.read_at(0, whole.get_size()).decode("utf-8")
            except UnicodeDecodeError:
                raise BadRequestError("a field of the form is no UTF-8 text") from None
            self.fields.setdefault(part.name, value)

    def close(self) -> None:
        """Let go of it."""
        for part in self._kept:
            part.keeping.close()


@frozen
class _Part:
    name: str
    filename: str | None
    keeping: Keeping

    @property
    def is_file(self) -> bool:
        return self.filename is not None

    def add(self, data: bytes) -> None:
        self.keeping.add(data)


def _last_name(filename: str) -> str:
    """Return the name of a file without its directories: some browsers send a whole path."""
    return filename.replace("\\", "/").rpartition("/")[2]


Form = FieldsForm | FilesForm
