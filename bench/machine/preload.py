"""What the fork server imports before it forks: the slow libraries, and not one thread or device touched."""

from __future__ import annotations

from bench.machine import provenance

provenance.quiet_threads()

import kornia  # noqa: E402, F401
import medmnist.evaluator  # noqa: E402, F401
import pandas  # noqa: E402, F401
import pyarrow.parquet  # noqa: E402, F401
import sklearn.metrics  # noqa: E402, F401
import timm  # noqa: E402, F401
import torch  # noqa: E402, F401
