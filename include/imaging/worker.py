"""The child process in which pictures are decoded: reads requests from stdin, a JSON object a line, answers on stdout.

Started by `workers.py` as `python -m include.imaging.worker LIMITS`. It may be killed at any moment; nothing depends on
its living on. It imports this room and Pillow, no more.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from include.imaging.errors import DecoderCrashed, MemoryLimit, ProxyError
from include.imaging.recipe import Limits, PreviewRequest, ProxyOptions

_LONGEST_OUTPUT = 256 * 1024**2  # 8000 x 8000 of RGB noise, the most that options allow, has 192 MB
_GRACE_SECONDS = 5  # how much later than the parent's time limit the kernel ends a child that nobody watches any more


def _silence_libraries() -> int:
    """The pipe to the parent under a number of its own, and nothing of what libraries print.

    libtiff says a line on stderr for each line of a picture that it cannot read: a few kilobytes of fax would fill the
    task's log. What this process itself has to say, it says where stderr was.
    """
    replies, stderr = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = os.fdopen(stderr, "w", buffering=1, errors="backslashreplace")
    faulthandler.enable(sys.stderr)  # a few lines on where it was when a decoder crashed
    return replies


def _leave_signals_to_the_parent() -> None:
    """Ctrl-C and a scheduler's SIGTERM reach the whole process group. The parent decides what becomes of the work; a
    child that died of them would look like a child that died of its picture."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the kernel ends the process, no matter what it is busy with


def _limit_resources(limits: Limits) -> None:
    """Bound the address space and what is written, write no core file, and offer this process first when the machine
    runs out of memory."""
    import resource

    with suppress(ValueError, OSError):  # not every system enforces it
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LONGEST_OUTPUT, _LONGEST_OUTPUT))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _die_with_the_parent() -> None:
    """Leave at once when the parent is gone, also in the middle of a picture.

    Not by PR_SET_PDEATHSIG: that fires when the *thread* that started this process ends, and pools of threads do end.
    """

    def watch() -> None:
        hung_up = select.poll()
        hung_up.register(0, 0)  # no events asked for: a hang-up is always reported
        hung_up.poll()
        os._exit(0)

    threading.stack_size(256 * 1024)
    threading.Thread(target=watch, daemon=True).start()


def _prepare_pillow() -> None:
    """Our limits in place of Pillow's, and no threads inside decoders: the pool has a process for each core."""
    import pillow_heif.options
    from PIL import AvifImagePlugin, Image

    Image.MAX_IMAGE_PIXELS = None
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    pillow_heif.options.DECODE_THREADS = 1


def _perform(request: dict[str, Any], limits: Limits) -> dict[str, Any]:
    from include.imaging.header import read_header
    from include.imaging.inspection import inspect_image
    from include.imaging.preview import create_preview
    from include.imaging.proxy import write_proxy

    if request["do"] == "inspect":
        return asdict(inspect_image(request["source"], limits))
    if request["do"] == "header":
        return asdict(read_header(request["source"], limits))
    preview = PreviewRequest(**request["preview"]) if request["preview"] else None
    if request["do"] == "create_preview" and preview:
        return asdict(create_preview(request["source"], preview, limits))
    options = ProxyOptions(**request["options"])
    if request["max_pixels"]:
        limits = replace(limits, max_pixels=min(limits.max_pixels, request["max_pixels"]))
    return asdict(write_proxy(request["source"], Path(request["output"]), options, limits, preview))


def _answer(request: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The result or the refusal. Nothing escapes: an error that nobody foresaw is a refusal too."""
    try:
        return {"result": _perform(request, limits)}
    except ProxyError as error:
        return {"code": error.code, "message": str(error)}
    except MemoryError:
        return {"code": MemoryLimit.code, "message": "decoding needs more memory than memory_bytes allows"}
    except Exception:
        traceback.print_exc()
        last = traceback.format_exc().strip().splitlines()[-1]
        return {"code": DecoderCrashed.code, "message": f"unforeseen: {last}"}


def main() -> None:
    """Serve requests until stdin ends."""
    replies = _silence_libraries()
    limits = Limits(**json.loads(sys.argv[1]))
    _leave_signals_to_the_parent()
    _limit_resources(limits)
    _die_with_the_parent()
    _prepare_pillow()
    from include.imaging import proxy  # noqa: F401 - all imports before the first picture's time runs

    os.write(replies, b'{"ready": true}\n')
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_REAL, limits.seconds + _GRACE_SECONDS)
        answer = json.dumps(_answer(json.loads(line), limits))
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.write(replies, answer.encode() + b"\n")


if __name__ == "__main__":
    main()
