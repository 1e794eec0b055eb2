"""What the focusing of fields makes of searches that are faint, surprising or absurd."""

import pytest

from acquisition.autofocus import FocusFailedError, FocusResult
from acquisition.focusing import FieldFocus
from acquisition.plan import load_experiment

DEPTH_UM = {"low": 4.9, "high": 1.36}


class Searches:
    """Stands for `search_focus`: answers with planes and significances that the test gives."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, _microscope, _experiment, _state, start_um, half_um, coarse, exposure_ms):
        self.asked.append((start_um, half_um, coarse, exposure_ms))
        answer = self.answers.pop(0)
        if answer is None:
            raise FocusFailedError("nothing there", ((start_um, 0.0),) * 5)
        plane_um, significance = answer
        return FocusResult(plane_um, ((plane_um, 1.0),) * coarse, best_energy=1.0, significance=significance)


class Drive:
    """The one thing of a microscope that is asked for here."""

    position_um = 0.0

    def move_focus(self, position_um):
        self.position_um = position_um


@pytest.fixture
def focusing(monkeypatch):
    """Return (focus, drive, searches) for the answers of the searches to come."""

    def make(*answers, **focus_plan):
        shipped = load_experiment("virtual_widefield")
        plan = shipped.focus.model_copy(update=focus_plan)
        searches, drive = Searches(*answers), Drive()
        monkeypatch.setattr("acquisition.focusing.search_focus", searches)
        return FieldFocus(drive, shipped.model_copy(update={"focus": plan}), lambda: 0.0), drive, searches

    return make


def known(focus, count=6):
    """Focus at the places of a level sample."""
    return [focus.focus("low", (100.0 * n, 0.0), thorough=True) for n in range(count)]


LEVEL = [(4.0, 1000.0)] * 6


def test_a_level_sample_is_soon_taken_on_the_map_s_word_but_not_for_ever(focusing):
    focus, _, searches = focusing(*LEVEL, *LEVEL)
    known(focus)
    methods = [focus.focus("low", (100.0 * (n % 6), 0.0)).method for n in range(14)]
    assert methods.count("predicted") == 12
    assert methods[6] == methods[13] == "searched"
    assert searches.asked[-1][2] == 3  # three exposures do where the map nearly knows


def test_light_is_spared_where_the_score_is_far_above_its_noise(focusing):
    focus, _, searches = focusing((4.0, 400.0), (4.0, 100.0))
    known(focus, 2)
    full_ms = searches.asked[0][3]
    assert searches.asked[1][3] == pytest.approx(full_ms / 4)


def test_a_field_too_faint_for_the_spared_light_is_searched_again_in_full(focusing):
    focus, _, searches = focusing((4.0, 1000.0), (7.0, 10.0), (4.0, 60.0))
    _, second = known(focus, 2)
    full_ms = searches.asked[0][3]
    assert searches.asked[1][3] < full_ms
    assert searches.asked[2][3] == full_ms
    assert second.found.focus_um == 4.0
    assert focus.light_ms > 3 * full_ms


def test_a_faint_field_is_weighed_against_the_map(focusing):
    focus, drive, _ = focusing(*LEVEL, (4.6, 6.0), (4.6, 6.0))
    known(focus)
    faint = focus.focus("low", (250.0, 0.0), thorough=True)
    assert faint.error_um == pytest.approx(DEPTH_UM["low"] / 2, rel=0.05)
    assert abs(drive.position_um - 4.0) < 0.1


def test_a_plane_that_surprises_is_searched_from_elsewhere_and_believed_when_it_is_found_again(focusing):
    focus, drive, searches = focusing(*LEVEL, (19.0, 500.0), (19.1, 500.0))
    known(focus)
    focus.focus("low", (250.0, 0.0), thorough=True)
    assert drive.position_um == 19.0
    assert searches.asked[-1][0] == pytest.approx((4.0 + 19.0) / 2, abs=0.5)


@pytest.mark.parametrize("second", [None, (4.0, 500.0)])
def test_a_plane_that_surprises_and_is_not_found_again_has_failed(focusing, second):
    focus, _, _ = focusing(*LEVEL, (19.0, 500.0), second)
    known(focus)
    with pytest.raises(FocusFailedError, match="focus map expects"):
        focus.focus("low", (250.0, 0.0), thorough=True)
    assert focus.map.known == 6


def test_a_plane_beyond_the_cap_is_not_believed(focusing):
    focus, _, _ = focusing(*LEVEL, (30.0, 500.0), largest_correction_um=20.0)
    known(focus)
    with pytest.raises(FocusFailedError, match="largest_correction_um"):
        focus.focus("low", (250.0, 0.0), thorough=True)


def test_where_a_narrow_search_finds_nothing_a_wide_one_is_made(focusing):
    focus, _, searches = focusing(*LEVEL, None, (4.0, 500.0))
    known(focus)
    focus.focus("low", (250.0, 0.0), thorough=True)
    narrow, wide = searches.asked[-2:]
    assert narrow[1] < wide[1] == 25.0
    full_ms = searches.asked[0][3]
    assert 5 * narrow[3] + 12 * wide[3] == pytest.approx(12 * full_ms)
