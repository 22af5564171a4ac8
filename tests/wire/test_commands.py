"""What holds for every Command: read from the classes themselves and from their docstrings."""

from __future__ import annotations

import importlib.util
import inspect
import re
from types import ModuleType
from typing import Any

from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from ampgrid.commands import arguments as a
from ampgrid.commands import (
    blob_users,
    blobs,
    control,
    drive,
    errors,
    introduction,
    session,
    storage,
    vdrive,
)
from ampgrid.commands.base import GridCommand
from ampgrid.commands.session import PROTOCOL_VERSION
from ampgrid.commands.storage import MAX_HEADS_BYTES
from ampgrid.wire import boxes
from tests.wire.kit import Recorder, commands_in

MODULES = (session, introduction, storage, vdrive, blobs, control, drive, blob_users)
#: What amp.Command knows, and what its metaclass makes of it.
MEANINGFUL = {
    "arguments",
    "response",
    "errors",
    "fatalErrors",
    "commandName",
    "commandType",
    "responseType",
    "requiresAnswer",
    "allErrors",
    "reverseErrors",
    "extra",
}


def all_commands() -> list[type[Any]]:
    return commands_in(*MODULES)


def leaves() -> list[type[errors.WireError]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type)
        and issubclass(value, errors.WireError)
        and value is not errors.WireError
    ]


def make_commands() -> ModuleType:
    """The script that writes the page, which is no module of the package."""
    import ampgrid

    root = inspect.getfile(ampgrid).removesuffix("/ampgrid/__init__.py")
    spec = importlib.util.spec_from_file_location("make_commands", f"{root}/docs/make_commands.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


#: What a Command may do in its own way.
_OVERRIDDEN = {"makeArguments", "makeResponse", "parseArguments", "parseResponse"}


class CommandsTest(SynchronousTestCase):
    def test_there_are_commands(self) -> None:
        self.assertGreaterEqual(len(all_commands()), 25)

    def test_names_are_unique_and_those_of_their_classes(self) -> None:
        names = [command.commandName for command in all_commands()]
        self.assertEqual(len(names), len(set(names)))
        for command in all_commands():
            self.assertEqual(command.commandName, command.__name__.encode())
            self.assertLessEqual(len(command.commandName), boxes.MAX_KEY_BYTES)

    def test_no_attribute_is_misspelt(self) -> None:
        """AMP ignores `reponse` and `erors`, and answers nothing."""
        for command in all_commands():
            for base in command.__mro__:
                if base.__module__.startswith("ampgrid"):
                    own = {name for name in vars(base) if not name.startswith("__")}
                    self.assertEqual(own - MEANINGFUL - _OVERRIDDEN, set(), base)

    def test_argument_names(self) -> None:
        """The parser needs the routing keys first, and Python wants an identifier."""
        for command in all_commands():
            for pairs in (command.arguments, command.response):
                names = [name for name, _argument in pairs]
                self.assertEqual(len(names), len(set(names)), command)
                self.assertLessEqual(len(names), 12, command)
                for name in names:
                    self.assertRegex(name, rb"\A[a-z][a-z0-9]*(_[a-z0-9]+)*\Z")

    def test_arguments_are_bounded_types_of_ours(self) -> None:
        for command in all_commands():
            for _name, argument in (*command.arguments, *command.response):
                if not isinstance(argument, amp.Descriptor):
                    self.assertEqual(type(argument).__module__, a.__name__, command)

    def test_descriptors_are_for_the_socket_alone(self) -> None:
        for command in all_commands():
            if any(isinstance(each, amp.Descriptor) for _name, each in command.arguments):
                self.assertEqual(command.__module__, control.__name__)

    def test_every_command_has_an_answer(self) -> None:
        for command in all_commands():
            self.assertIs(command.requiresAnswer, True)

    def test_no_error_is_fatal(self) -> None:
        """A fatal error would end the connection, and all that others do on it."""
        for command in all_commands():
            self.assertEqual(command.fatalErrors, {})


class ErrorsTest(SynchronousTestCase):
    def test_codes_are_unique(self) -> None:
        codes = [leaf.code for leaf in leaves()]
        self.assertEqual(len(codes), len(set(codes)))
        for code in codes:
            self.assertRegex(code, rb"\A[A-Z]+(_[A-Z]+)*\Z")
        self.assertNotIn(amp.UNHANDLED_ERROR_CODE, codes)
        self.assertNotIn(amp.UNKNOWN_ERROR_CODE, codes)

    def test_declared_errors_are_leaves_of_the_table(self) -> None:
        for command in all_commands():
            for declared, code in command.allErrors.items():
                self.assertIn(declared, leaves(), command)
                self.assertEqual(declared.code, code)

    def test_no_declared_error_has_a_declared_subclass(self) -> None:
        """AMP answers the first class that matches, and so a parent's code for a child."""
        for one in leaves():
            for other in leaves():
                self.assertTrue(one is other or not issubclass(one, other), (one, other))

    def test_every_command_but_starttls_may_answer_the_common_errors(self) -> None:
        for command in all_commands():
            if command is not session.StartTLS:
                self.assertLessEqual(set(GridCommand.errors), set(command.allErrors))

    def test_errors_are_built_from_one_string(self) -> None:
        """One string is all that AMP carries."""
        for leaf in leaves():
            self.assertEqual(str(leaf("why")), "why")
            with self.assertRaises(TypeError):
                leaf("why", "else")  # type: ignore[call-arg]
            self.assertTrue(leaf.__doc__)

    def test_every_error_is_declared_by_some_command(self) -> None:
        declared = {leaf for command in all_commands() for leaf in command.allErrors}
        self.assertEqual(set(leaves()) - declared, set())

    def test_every_error_crosses_as_itself(self) -> None:
        """Through Twisted's own serialisation, for every Command and every error."""
        for command in all_commands():
            for leaf in command.allErrors:

                class Failing(amp.CommandLocator):
                    @command.responder
                    async def fail(self, *, _leaf: Any = leaf, **_arguments: Any) -> Any:
                        raise _leaf("why")

                box = amp.Box({name: _sample(each) for name, each in command.arguments})
                responder: Any = Failing().locateResponder(command.commandName)
                if any(isinstance(each, amp.Descriptor) for _name, each in command.arguments):
                    box.pop(b"descriptor")
                error = self.failureResultOf(responder(box), amp.RemoteAmpError).value
                self.assertEqual((error.errorCode, error.description), (leaf.code, "why"))


def _sample(argument: amp.Argument) -> bytes:
    if isinstance(argument, a.Count):
        return b"1"
    if isinstance(argument, a.Flag):
        return b"1"
    return bytes(argument.least) if isinstance(argument, a.Octets) else b""


class DocstringTest(SynchronousTestCase):
    """The docstrings are the specification, so they are complete and true."""

    def test_every_field_is_there_once(self) -> None:
        script = make_commands()
        for command in all_commands():
            text, fields = script.split_docstring(command)
            self.assertTrue(text)
            self.assertEqual(tuple(fields), script.FIELDS, command)
            self.assertTrue(all(fields.values()), command)
            self.assertLessEqual(int(fields["since"]), PROTOCOL_VERSION)
            self.assertRegex(fields["repeat"], r"\A(yes|no)\b")

    def test_bounds_hold(self) -> None:
        """The largest box that the types allow is within the bound that is stated."""
        for command in all_commands():
            _text, fields = make_commands().split_docstring(command)
            asked, answered = _stated(fields["bound"])
            self.assertLessEqual(_largest(command.arguments), asked, command)
            # No process has more than 2**47 bytes of memory: 15 digits of the 19.
            spare = 20 if command is control.GetMemoryUsage else 0
            self.assertLessEqual(_largest(command.response) - spare, answered, command)
            # Room for the routing keys, and for an argument or two of later versions.
            self.assertLessEqual(max(asked, answered) + 512, boxes.MAX_BOX_BYTES, command)

    def test_the_page_is_up_to_date(self) -> None:
        script = make_commands()
        self.assertEqual(
            script.PAGE.read_text(encoding="utf-8"),
            script.make_page(),
            "run: python docs/make_commands.py",
        )

    def test_the_page_has_every_command_and_error(self) -> None:
        page = make_commands().make_page()
        for command in all_commands():
            self.assertIn(f"### {command.__name__}\n", page)
        for leaf in leaves():
            self.assertIn(f"| `{leaf.code.decode()}` |", page)


def _stated(bound: str) -> tuple[int, int]:
    sizes = [
        int(number) * (1024 if unit == "KiB" else 1)
        for number, unit in re.findall(r"(\d+) (bytes|KiB)", bound)
    ]
    return sizes[0], sizes[0] if "each way" in bound else sizes[1]


def _largest(pairs: list[tuple[bytes, amp.Argument]]) -> int:
    return sum(4 + len(name) + _largest_value(argument) for name, argument in pairs)


def _largest_value(argument: amp.Argument) -> int:
    if isinstance(argument, a.Count):
        return len(str(argument.most))
    if isinstance(argument, a.Octets | a.Text):
        return argument.most
    if isinstance(argument, a.Blobs):
        return argument.total
    if isinstance(argument, a.ShareHeads):
        return MAX_HEADS_BYTES + 3 * a.MAX_SHARES_PER_REQUEST
    if isinstance(argument, a.ShareNumbers):
        return argument.most
    if isinstance(argument, a.ShareSizes):
        return 256 * 9
    return 1 if isinstance(argument, a.Flag) else 10


class AmpFactsTest(SynchronousTestCase):
    """Facts about Twisted's AMP that the Commands are designed around, should they change."""

    def test_one_string_of_an_error_crosses(self) -> None:
        responder: Any = Recorder().locateResponder(b"Break")
        failure = self.failureResultOf(responder(amp.Box({b"how": b"declared"})))
        self.assertEqual(failure.value.errorCode, errors.NoSpaceError.code)

    def test_parsing_raises_before_there_is_a_deferred(self) -> None:
        """So that whatever a responder raises at once is the caller's fault."""
        responder: Any = Recorder().locateResponder(b"Break")
        with self.assertRaises(KeyError):
            responder(amp.Box())
