"""Records until it is killed, and prints each frame that is on the disk: `python recorder_process.py DIR`."""

import itertools
import sys
from pathlib import Path

import numpy as np

from inference.messages import StreamPhotometry
from inference.outcomes import EnhancedFrame, FrameId
from inference.recording import FrameFacts, Recorder

FACTS = FrameFacts(channel="FITC", pixel_size_um=0.65)
PHOTOMETRY = StreamPhotometry(model_hash="ab", background=0.0, scale=1.0)


def enhanced(recorder: Recorder, frame: int) -> EnhancedFrame:
    image = np.full((256, 256), frame, np.float32)
    source = FrameId(recorder.session, frame)
    return EnhancedFrame(source, image, 0.325, "FITC", "nearest", "ab", (), PHOTOMETRY, 1.0, 1.0)


def told(frame: int, reason: str | None) -> None:
    if reason is None:
        print(frame + 1, flush=True)


with Recorder.create(Path(sys.argv[1])) as recorder:
    for number in itertools.count():
        recorder.put(np.full((128, 128), number, np.uint16), FACTS, told)
        if number % 3 == 0:
            recorder.flush()
            recorder.put_enhanced(enhanced(recorder, number))
