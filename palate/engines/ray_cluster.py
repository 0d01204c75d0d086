"""The connection to a Ray cluster, or Ray started on this machine for as long as it is needed."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from palate.errors import PalateError

_SECONDS = 5.0
# Of a Ray that is started here, in bytes: what is under way is small.
_OBJECT_STORE = 512 * 2**20


def require_ray() -> Any:
    """The module ``ray``.

    Raises:
        PalateError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise PalateError("the engine 'ray' needs Ray", 'pip install "palate[ray]"') from None
    return ray


def connect(address: str | None, cpus: int) -> Callable[[], None]:
    """Connect this process to Ray, unless it is connected already.

    Args:
        address: ``HOST:PORT`` of a cluster; ``auto``: the one that runs on this machine; None: that of the variable
            RAY_ADDRESS, or else Ray is started here.
        cpus: of the Ray that is started here.

    Returns:
        What ends the connection, and with it a Ray that was started here.

    Raises:
        PalateError: no cluster at this address, or one of other versions.
    """
    ray = require_ray()
    if ray.is_initialized():
        return lambda: None
    address = address or os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "configure_logging": False}
    folder: str | None = None
    before = {name: os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}

    def end() -> None:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    if address is None:
        folder = tempfile.mkdtemp(prefix="palate-ray-")
        # A token of its own for this one; Ray would write one into the home folder.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False, "_temp_dir": folder}
        options["object_store_memory"] = _OBJECT_STORE
    else:
        _check(address)
        options["address"] = address
    logging.getLogger("ray").setLevel(logging.ERROR)
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        end()
        raise _refusal(address, error) from None
    finally:
        # Ray ends a process that is terminated by a handler of its own.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)

    return end


def _check(address: str) -> None:
    """Refuse an address where nobody answers within seconds; Ray itself tries for a minute."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if address.startswith("ray://") or not host or not port.isdigit():
        remedy = "Give HOST:PORT of the head node (6379 is Ray's own port), or auto."
        if address.startswith("ray://"):
            remedy = "Run the command on a machine of the cluster, or with `ray job submit`."
        raise PalateError(f"--address {address} cannot be used", remedy)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise PalateError(
            f"no Ray cluster answers at {address} ({error})", "Start one with `ray start --head`, or correct --address."
        ) from None


def _refusal(address: str | None, error: Exception) -> PalateError:
    text = " ".join(str(error).split())
    if "ersion mismatch" in text:
        return PalateError(
            f"the cluster at {address} runs other versions ({text[:300]})", "Install the same Ray and Python here."
        )
    if address is None:
        return PalateError(f"Ray cannot be started on this machine ({text[:300]})", "Leave --engine ray out.")
    return PalateError(
        f"no Ray cluster can be joined at {address} ({text[:300]})",
        "Start one with `ray start --head`, or correct --address.",
    )
