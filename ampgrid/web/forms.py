"""Forms that browsers send, read while they come in: fields in memory, files in the spool."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qsl

from attrs import define, field, frozen
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from ampgrid.immutable import Uploadable
from ampgrid.web.bodies import TEXT_BYTES, Flow, TextBody
from ampgrid.web.errors import BadRequestError, TooLargeError
from ampgrid.web.spool import Keeping, Slice, SpoolRoom

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
        #: The bytes of all files, one behind the other: in one place, however many they are.
        self._keeping = Keeping(room, flow.pause, flow.resume, flow.fail)
        self._part: _Field | _File | None = None
        self._said: list[_Field] = []
        self._sent: list[_File] = []
        #: Bytes of fields that may still come.
        self._left = TEXT_BYTES
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
                self._part = self._begun(event)
            elif event is None:
                self._part = None
            elif isinstance(self._part, _File):
                self._part.size += len(event)
                self._keeping.add(bytes(event))
            elif self._part is not None:
                self._left -= len(event)
                if self._left < 0:
                    raise TooLargeError(f"the fields of a form have {TEXT_BYTES} bytes at most")
                self._part.text.add(bytes(event))

    def _begun(self, segment: MultipartSegment) -> _Field | _File:
        if len(self._sent) >= MOST_FILES:
            raise TooLargeError(f"a form has {MOST_FILES} files at most")
        if segment.filename is None:
            self._said.append(_Field(segment.name or ""))
            return self._said[-1]
        self._sent.append(_File(_last_name(segment.filename), self._keeping.size))
        return self._sent[-1]

    async def complete(self) -> None:
        """Wait until all files are kept."""
        try:
            self._parser.close()
        except MultipartError as error:
            raise BadRequestError("the form is cut short") from error
        for said in self._said:
            try:
                self.fields.setdefault(said.name, said.text.data.decode("utf-8"))
            except UnicodeDecodeError:
                raise BadRequestError("a field of the form is no UTF-8 text") from None
        whole = await self._keeping.whole()
        self.files = [FormFile(f.name, Slice(whole, f.start, f.size)) for f in self._sent]

    def close(self) -> None:
        """Let go of it."""
        self._keeping.close()
        self._said = []


@define
class _Field:
    """A field that is no file, while it comes in."""

    name: str
    text: TextBody = field(factory=lambda: TextBody(MOST_FIELD_BYTES), repr=False)


@define
class _File:
    """A file, while it comes in: where its bytes begin among those of all files, and how many."""

    name: str
    start: int
    size: int = 0


def _last_name(filename: str) -> str:
    """Return the name of a file without its directories: some browsers send a whole path."""
    return filename.replace("\\", "/").rpartition("/")[2]
