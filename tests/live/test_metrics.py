"""What Prometheus and whoever restarts services get to see, over real HTTP."""

import http.client

import pytest
from prometheus_client.parser import text_string_to_metric_families

from configs.document import WrongInputError
from inference.metrics import Health, serve_metrics
from inference.protocol import Delivery

LIMIT_S = 5.0


def fetch(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def scrape(port):
    """Return all samples by name and labels, as Prometheus itself reads them."""
    status, text = fetch(port, "/metrics")
    assert status == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def health_of(worker, restarts=0):
    return lambda: Health(worker.figures(), True, restarts, "", LIMIT_S)


def test_every_counter_of_the_worker_is_scraped(run_worker, raw_client, gated_engine, numbered):
    worker = run_worker(gated_engine)
    client = raw_client(worker)
    client.hello()
    client.send(b"nonsense")
    client.receive()
    unlucky = numbered(3).copy()
    unlucky[0, 0] = 13
    client.send(*client.frame(numbered(0), 0))
    gated_engine.seen.get(timeout=10)
    for number in (1, 2):
        client.send(*client.frame(numbered(number), number, delivery=Delivery.PREVIEW))
    client.receive()
    client.send(*client.frame(unlucky, 3))
    gated_engine.open()
    for _ in range(3):
        client.receive()
    with serve_metrics(0, health_of(worker, restarts=2)) as port:
        samples = scrape(port)
    expected = {
        ("sharpscope_worker_ready",): 1,
        ("sharpscope_worker_restarts_total",): 2,
        ("sharpscope_frames_received_total",): 4,
        ("sharpscope_frames_enhanced_total",): 2,
        ("sharpscope_frames_failed_total", "engine_error"): 1,
        ("sharpscope_frames_dropped_total",): 1,
        ("sharpscope_frames_flagged_total",): 0,
        ("sharpscope_messages_refused_total",): 1,
        ("sharpscope_frames_waiting",): 0,
        ("sharpscope_clients",): 1,
        ("sharpscope_engine_busy_seconds",): 0,
        ("sharpscope_engine_seconds_count",): 2,
        ("sharpscope_engine_seconds_bucket", "+Inf"): 2,
        ("sharpscope_model_info", "", "2", "ab" * 32, "nearest"): 1,
    }
    assert {key: samples.get(key) for key in expected} == expected
    assert samples[("sharpscope_engine_seconds_sum",)] > 0


def test_a_worker_is_ready_until_its_engine_hangs_and_lives_on(run_worker, nearest_engine):
    worker = run_worker(nearest_engine)
    figures = worker.figures().model_copy(update={"serving": True})
    stuck = figures.model_copy(update={"busy_s": LIMIT_S + 1})
    now = [Health(figures, True, 0, "", LIMIT_S)]
    with serve_metrics(0, lambda: now[0]) as port:
        assert fetch(port, "/readyz") == (200, "ready\n")
        now[0] = Health(stuck, True, 0, "", LIMIT_S)
        status, text = fetch(port, "/readyz")
        assert (status, "one frame for 6 s" in text) == (503, True)
        assert fetch(port, "/healthz") == (200, "alive\n")
        now[0] = Health(None, True, 1, "the worker is starting", LIMIT_S)
        assert fetch(port, "/readyz") == (503, "the worker is starting\n")
        assert scrape(port)[("sharpscope_worker_ready",)] == 0
        now[0] = Health(None, False, 1, "the worker is ended", LIMIT_S)
        assert fetch(port, "/healthz")[0] == 503
        assert fetch(port, "/")[0] == 404


def test_a_used_port_is_refused_in_one_line():
    health = Health(None, True, 0, "", LIMIT_S)
    with serve_metrics(0, lambda: health) as port, pytest.raises(WrongInputError, match="give another"):
        with serve_metrics(port, lambda: health):
            pass


def test_the_pages_are_not_to_be_had_from_elsewhere():
    health = Health(None, True, 0, "", LIMIT_S)
    with serve_metrics(0, lambda: health) as port:
        connection = http.client.HTTPConnection("127.0.0.2", port, timeout=5)
        with pytest.raises(ConnectionRefusedError):
            connection.request("GET", "/metrics")
