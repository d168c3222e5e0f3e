"""The process in which a delivered VCF is parsed: `python -m clinical_mm.ingest.vcf_worker`.

htslib prints parts of what it reads, and may abort, hang or take all memory on hostile bytes. Here that costs one
file: the process has a limit on its address space, an alarm that ends it even if nobody is left to, and no standard
output or error on which anything could be printed. It reads one request from standard input and answers on what was
standard output; `vcf_process` is the other end. Linux, as the limits are.
"""

import os
import signal
import sys
from pathlib import Path

import msgspec

from clinical_mm.ingest.isolation import shut_in
from clinical_mm.ingest.opening import UnreadableFileError
from clinical_mm.ingest.vcf_reading import read_vcf
from clinical_mm.ingest.vcf_wire import READY, Answer, ReadRequest, Refusal


def main() -> None:
    """Answer one request."""
    requests, answers = shut_in(int(sys.argv[1]), file_bytes=0)
    signal.alarm(int(sys.argv[2]))
    answers.write(READY)
    answers.flush()
    request = msgspec.msgpack.decode(requests.read(), type=ReadRequest)
    answers.write(msgspec.msgpack.encode(_answer(request)))
    answers.flush()


def _answer(request: ReadRequest) -> Answer:
    try:
        return read_vcf(Path(os.fsdecode(request.path)), request)
    except UnreadableFileError as error:
        return Refusal(error.reason_code, error.sentence)
    except MemoryError:
        return Refusal("unreadable_file", "the file needs more memory than its reader may take")
    except OSError as error:
        # The operating system's own words; without the path, which may name the patient.
        return Refusal(
            "unreadable_file", f"the file cannot be read: {error.strerror or type(error).__name__}"
        )
    except Exception as error:  # noqa: BLE001 - the kind alone: messages of parsers quote what they read
        return Refusal("unreadable_file", f"the file cannot be read ({type(error).__name__})")


if __name__ == "__main__":
    main()
