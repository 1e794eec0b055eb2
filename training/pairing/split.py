"""Which regions train, which validate and which test.

Owns the rule: a region is in one split with all its fields and channels, so that no place is ever seen in
two; the choice is fixed by the region numbers alone. Knows no images.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from configs.document import WrongInputError
from training.pairing.pairs import Split

__all__ = ["SplitRule"]


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How regions are divided: by fractions, or by naming them.

    With three regions or more, each of the fractions yields at least one region unless it is 0; two
    regions train and validate; a single one trains.
    """

    validation_fraction: float = 0.125
    test_fraction: float = 0.125
    validation_regions: frozenset[int] | None = None
    """Named regions replace the fraction."""
    test_regions: frozenset[int] | None = None

    def divide(self, regions: Iterable[int]) -> dict[int, Split]:
        """Return the split of every region.

        Raises
        ------
        WrongInputError
            Fractions leave nothing to train on, or a named region does not exist or is named twice.
        """
        ordered = sorted(set(regions))
        self._check(ordered)
        test = set(self.test_regions or ())
        validation = set(self.validation_regions or ())
        free = [region for region in ordered if region not in test | validation]
        if self.test_regions is None:
            test = set(_spaced(free, self._count(self.test_fraction, len(ordered), enough=3)))
            free = [region for region in free if region not in test]
        if self.validation_regions is None:
            wanted = self._count(self.validation_fraction, len(ordered), enough=2)
            if self.validation_fraction + self.test_fraction < 1:
                wanted = min(wanted, len(free) - 1)  # both may have been rounded up, and training needs one
            validation = set(_spaced(free, wanted))
            free = [region for region in free if region not in validation]
        if not free:
            msg = f"none of {len(ordered)} regions is left to train on; name fewer for validation and test"
            raise WrongInputError(msg)
        named: dict[int, Split] = dict.fromkeys(ordered, "train")
        return named | dict.fromkeys(sorted(validation), "validation") | dict.fromkeys(sorted(test), "test")

    @staticmethod
    def _count(fraction: float, regions: int, enough: int) -> int:
        return max(1, round(fraction * regions)) if fraction > 0 and regions >= enough else 0

    def _check(self, regions: list[int]) -> None:
        if min(self.validation_fraction, self.test_fraction) < 0 or (
            self.validation_fraction + self.test_fraction >= 1
        ):
            msg = (
                f"validation and test fractions are {self.validation_fraction} and {self.test_fraction}; "
                "give two that are not negative and leave something to train on"
            )
            raise WrongInputError(msg)
        validation, test = self.validation_regions or frozenset(), self.test_regions or frozenset()
        if validation & test:
            msg = f"region {min(validation & test)} is named for validation and for test; name it once"
            raise WrongInputError(msg)
        unknown = (validation | test) - set(regions)
        if unknown:
            msg = f"region {min(unknown)} does not exist; the regions are {', '.join(map(str, regions))}"
            raise WrongInputError(msg)


def _spaced(regions: list[int], count: int) -> list[int]:
    """Return `count` regions spread evenly over the list, so that they lie all over the specimen."""
    count = min(count, len(regions))
    places = np.floor((np.arange(count) + 0.5) * len(regions) / max(count, 1)).astype(int)
    return [regions[place] for place in places]
