"""Process that is Prefect's own server for a run: `python -m flows.serve PORT`."""

from __future__ import annotations

import os
import sys


def serve(port: int) -> None:
    """Serve Prefect's API on this port of loopback; return at once where another server is set."""
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE

    if PREFECT_API_URL.value() or not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        return
    import uvicorn

    app = "prefect.server.api.server:create_app"
    uvicorn.run(app, factory=True, host="127.0.0.1", port=port, log_level="error", lifespan="on")


if __name__ == "__main__":
    # As Prefect does for the server that it starts itself.
    os.environ |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    # A run needs no types of blocks; to find them, all packages with some (Dask, Ray) would be imported.
    os.environ |= {
        "PREFECT_API_BLOCKS_REGISTER_ON_START": "0",
        "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "0",
    }
    serve(int(sys.argv[1]))
