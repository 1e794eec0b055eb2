import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.document import WrongInputError
from training.pairing.split import SplitRule

REGIONS = st.sets(st.integers(0, 500), min_size=1, max_size=60)


@given(REGIONS, st.floats(0, 0.4), st.floats(0, 0.4))
def test_every_region_is_in_one_split_and_some_train(regions, validation, test):
    divided = SplitRule(validation, test).divide(regions)
    assert set(divided) == regions
    assert "train" in divided.values()


@given(REGIONS)
def test_the_split_is_fixed_by_the_regions_alone(regions):
    backwards = sorted(regions, reverse=True)
    assert SplitRule().divide(regions) == SplitRule().divide([*backwards, *backwards])


@given(st.integers(3, 80))
def test_three_regions_and_more_have_all_three_splits(count):
    assert set(SplitRule().divide(range(count)).values()) == {"train", "validation", "test"}


def test_eight_regions_give_one_to_validation_and_one_to_test():
    splits = list(SplitRule().divide(range(8)).values())
    assert (splits.count("validation"), splits.count("test")) == (1, 1)


def test_two_regions_train_and_validate():
    assert sorted(SplitRule().divide([4, 9]).values()) == ["train", "validation"]


def test_named_regions_replace_the_fractions():
    rule = SplitRule(validation_regions=frozenset({2}), test_regions=frozenset({0, 5}))
    divided = rule.divide(range(6))
    assert [divided[k] for k in range(6)] == ["test", "train", "validation", "train", "train", "test"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (SplitRule(test_regions=frozenset({7})), "region 7 does not exist"),
        (SplitRule(validation_regions=frozenset({1}), test_regions=frozenset({1})), "named for validation"),
        (SplitRule(validation_regions=frozenset({0, 1, 2, 3})), "left to train on"),
        (SplitRule(validation_fraction=0.6, test_fraction=0.5), "leave something"),
    ],
)
def test_a_split_that_cannot_be_is_refused(rule, words):
    with pytest.raises(WrongInputError, match=words):
        rule.divide(range(4))
