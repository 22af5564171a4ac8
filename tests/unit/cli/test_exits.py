"""The table of exit statuses: complete, unambiguous, and the one in the documentation."""

from __future__ import annotations

import inspect
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ampgrid import errors
from ampgrid.cli.exits import EXITS, INTERNAL, exit_of, exit_table
from ampgrid.commands import errors as wire

DOCUMENT = Path(__file__).parents[3] / "docs" / "reference" / "exit-statuses.md"


class ExitTests(SynchronousTestCase):
    def test_the_documentation_has_this_table(self) -> None:
        self.assertIn(exit_table(), DOCUMENT.read_text("utf-8"))

    def test_numbers_and_names_are_distinct_and_in_order(self) -> None:
        numbers = [each.status for each in EXITS]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertEqual(len({each.name for each in EXITS}), len(EXITS))

    def test_no_cause_stands_twice(self) -> None:
        causes = [cause for each in EXITS for cause in each.causes]
        self.assertEqual(len(causes), len(set(causes)))

    def test_the_contract(self) -> None:
        for error, status in [
            (errors.AmpgridError("x"), 1),
            (ValueError("x"), 1),
            (errors.BadArgumentValueError("x"), 2),
            (errors.ConfigError("x"), 3),
            (errors.BrokenStoreError("x"), 3),
            (errors.NotConnectedError("x"), 4),
            (errors.CallTimeoutError("x"), 4),
            (errors.NotEnoughSharesError("x"), 5),
            (errors.NotHappyError("x"), 6),
            (errors.NotEnoughPeersError("x"), 6),
            (errors.IntegrityError("x"), 7),
            (errors.FileError("x"), 8),
            (errors.FileChangedError("x"), 8),
            (FileNotFoundError("x"), 8),
            (errors.BadCapError("x"), 9),
            (errors.BadAddressError("x"), 9),
            (errors.OperationCancelledError("x"), 130),
            (KeyboardInterrupt(), 130),
            (BrokenPipeError(), 141),
        ]:
            self.assertEqual(exit_of(error).status, status, repr(error))

    def test_an_error_of_the_wire_ends_like_ours_of_that_kind(self) -> None:
        for error, status in [
            (wire.InternalWireError("7"), 1),
            (wire.BadArgumentError(), 2),
            (wire.StoreFailedError(), 3),
            (wire.NotAllowedError(), 4),
            (wire.BusyError(), 4),
            (wire.NotEnoughSharesFoundError("1 of 3"), 5),
            (wire.NotHappyEnoughError(), 6),
            (wire.NotEnoughPeersConnectedError(), 6),
            (wire.DamagedError(), 7),
            (wire.FileFailedError(), 8),
            (wire.BadCapTextError(), 9),
            (wire.CancelledError(), 130),
        ]:
            self.assertEqual(exit_of(error).status, status, repr(error))

    def test_every_error_that_is_ours_has_a_status_of_its_own_kind(self) -> None:
        """Only the root stays internal: a new branch has to be given a status."""
        for name, kind in inspect.getmembers(errors, inspect.isclass):
            if issubclass(kind, errors.AmpgridError) and kind is not errors.AmpgridError:
                self.assertIsNot(exit_of(kind("x")), INTERNAL, name)
