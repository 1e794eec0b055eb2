from hypothesis import given
from hypothesis import strategies as st

from training.pairing.thinning import Thinned


@given(count=st.integers(0, 500), half=st.integers(1, 20))
def test_what_is_kept_is_evenly_spaced_from_the_first_and_never_more_than_wanted(count, half):
    thinned = Thinned(2 * half)
    for number in range(count):
        thinned.offer(lambda number=number: number)
    kept = thinned.kept
    assert len(kept) <= 2 * half
    assert len(kept) >= min(count, half)
    step = kept[1] - kept[0] if len(kept) > 1 else 1
    assert kept == list(range(0, count, step))
