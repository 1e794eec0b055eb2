"""Which panels a folder gives, and how the viewer's server serves them."""

import json
import urllib.error
import urllib.request

import pytest

from configs.document import WrongInputError
from sharpscope.panels import panels_of


def answer(url, etag=None):
    """Return status, ETag and body of a GET."""
    request = urllib.request.Request(url, headers={"If-None-Match": etag} if etag else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.headers["ETag"], response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["ETag"], error.read()


@pytest.fixture
def demo(scan, run_folder, pair_set, tmp_path):
    """An output folder as the demo's: a scan, pairs and a run beside each other, and something else."""
    (tmp_path / "pairs").symlink_to(pair_set.path)
    (tmp_path / "live").mkdir()
    return tmp_path


def test_a_folder_gives_what_it_is(demo):
    for folder, name in (("scan", "scan"), ("pairs", "pairs"), ("run", "training")):
        assert [panel.name for panel in panels_of(demo / folder)] == [name]


def test_a_demos_folder_gives_all_that_lie_in_it(demo):
    panels = panels_of(demo)
    assert [(panel.name, panel.title) for panel in panels] == [
        ("scan", "Scan"),
        ("pairs", "Pairs"),
        ("training", "Training"),
    ]
    for panel in panels:
        assert json.loads(json.dumps(panel.content(), allow_nan=False))["kind"] == panel.name


def test_several_runs_have_names_of_their_own(demo):
    (demo / "run").rename(demo / "DAPI")
    (demo / "FITC").symlink_to(demo / "DAPI")
    training = [panel for panel in panels_of(demo) if panel.name.startswith("training")]
    assert [(panel.name, panel.title) for panel in training] == [
        ("training", "Training DAPI"),
        ("training-2", "Training FITC"),
    ]


def test_unfinished_work_of_somebody_is_not_shown(demo):
    (demo / "scan").rename(demo / ".scan.partial")
    assert [panel.name for panel in panels_of(demo)] == ["pairs", "training"]


def test_a_folder_with_nothing_to_show_is_refused_in_one_line(tmp_path):
    with pytest.raises(WrongInputError, match="holds nothing to show") as refusal:
        panels_of(tmp_path)
    assert "\n" not in str(refusal.value)


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(WrongInputError, match="is not a folder"):
        panels_of(tmp_path / "missing")


def test_a_panel_is_sent_once_until_it_changes(served, scan):
    url = served(*panels_of(scan.path)).url + "api/panels/scan"
    status, etag, body = answer(url)
    assert (status, json.loads(body)["progress"]["done"]) == (200, 0)
    assert answer(url, etag) == (304, etag, b"")
    scan.field(0)
    status, after, body = answer(url, etag)
    assert (status, json.loads(body)["progress"]["done"]) == (200, 1)
    assert after != etag


def test_pictures_are_served_by_their_names_and_nothing_else_is(served, scan):
    scan.field(0)
    url = served(*panels_of(scan.path)).url + "api/panels/scan/pictures/"
    status, _, body = answer(url + "region0000_low_tile00_take1_channel0_small")
    assert (status, body[:4]) == (200, b"\x89PNG")
    for name in ("manifest.json", "..%2Fmanifest.json", "%2Fetc%2Fpasswd", "region0000_low_tile00.ome.tif"):
        assert answer(url + name)[0] == 404
