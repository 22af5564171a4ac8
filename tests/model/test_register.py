"""The register within small bounds: all states of it, and the mutants that must be found out.

``tests/campaigns/register_model.py`` goes further by the same means.
"""

from twisted.trial.unittest import SynchronousTestCase

from tests.model.configurations import DECLINES, LARGE, LIAR, LIAR_FAST, LIAR_READ, RACE, SMALL
from tests.model.explore import explore
from tests.model.liveness import Alone
from tests.model.mutants import MUTANTS
from tests.model.obstruction import Obstructed

#: Where it is tried, too, that a writer left alone gets its change in.
ALONE = {"race", "race of four", "refused", "liar", "disk loss", "expiry", "move"}


def kinds(found):
    """Return how attempts and reads ended, in the words of the table of bounds."""
    settled = {True: "already", False: "declined"}
    return {settled.get(already, kind) for kind, already in found.ends}


class EveryStateTests(SynchronousTestCase):
    """Nothing goes wrong anywhere, and a writer left alone gets its change in."""

    def explore(self, name):
        bounds, seen = SMALL[name]
        alone = Alone()
        found = explore(bounds, each=alone if name in ALONE else None)
        self.assertEqual((found.wrong, found.way), ("", ()))
        self.assertTrue(found.whole)
        self.assertLessEqual(set(seen.split()), kinds(found))
        if name in ALONE:
            self.assertGreater(len(alone.checked), 50)

    def test_mutants_are_of_bounds_that_are_searched(self):
        clean = [bounds for bounds, _ in (*SMALL.values(), *LARGE.values())]
        for mutant in MUTANTS:
            self.assertIn(mutant.bounds, clean, mutant.name)


def _add(name):
    def test(self):
        self.explore(name)

    test.__name__ = "test_" + name.replace(",", "").replace(" ", "_")
    setattr(EveryStateTests, test.__name__, test)


for _name in SMALL:
    _add(_name)


class ObstructedTests(SynchronousTestCase):
    """One liar of four, at work, cannot hold up a writer who is left alone."""

    def test_every_game_is_won(self):
        obstructed = Obstructed()
        found = explore(LIAR_FAST, each=obstructed)
        self.assertEqual((found.wrong, found.way), ("", ()))
        self.assertTrue(found.whole)
        self.assertGreater(len(obstructed.checked), 100)
        self.assertGreater(obstructed.moments, 10_000)
        # So what the liar does costs attempts.
        self.assertGreater(obstructed.most_attempts, 1)


class MutantTests(SynchronousTestCase):
    """A check that cannot fail is worth nothing."""

    def test_all_are_found(self):
        missed = []
        for mutant in MUTANTS:
            with mutant.alive():
                each = mutant.each() if mutant.each else None
                found = explore(mutant.bounds, each=each, traced=True, deep=mutant.deep)
            if not found.wrong or not found.way:
                missed.append(mutant.name)
        self.assertEqual(missed, [])
        self.assertGreater(len(MUTANTS), 25)


class ReductionTests(SynchronousTestCase):
    """What the model leaves out as adding nothing leads to nothing new."""

    def outcomes(self, bounds):
        """Return everything that can be committed together with everything that is reported."""
        outcomes = set()

        def note(model, state):
            committed = tuple(record.content for record in model.committed(state))
            results = tuple(model.client.values[number].results for number in state.clients)
            outcomes.add((committed, results))

        self.assertTrue(explore(bounds, each=note).whole)
        return outcomes

    def test_the_same_outcomes(self):
        for bounds in (RACE, DECLINES, LIAR, LIAR_READ):
            reduced = self.outcomes(bounds)
            self.assertEqual(reduced, self.outcomes(bounds._replace(full=True)))
            self.assertGreater(len(reduced), 4)

    def test_the_same_with_answers_in_the_air(self):
        bounds = RACE._replace(writers=((DECLINES.writers[0][0],),), attempts=2)
        whole = bounds._replace(full=True, late_answers=True)
        self.assertEqual(self.outcomes(bounds), self.outcomes(whole))
