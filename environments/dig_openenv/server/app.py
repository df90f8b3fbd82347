"""The server's application, where OpenEnv's tools look for it.

DIG_STAGE, DIG_SPLIT and DIG_WORKERS are those of
``dig_env.agents.integrations.openenv.ServerSettings``.
"""

import os

from dig_env.agents.integrations.openenv import ServerSettings, openenv_app

settings = ServerSettings(
    stage=os.environ.get("DIG_STAGE", "single"),
    split=os.environ.get("DIG_SPLIT", "train"),
    workers=int(os.environ.get("DIG_WORKERS", "1")),
)
# The renderer ends with the process: whoever serves this offers no moment to close it.
app = openenv_app(settings.open_pairs(), settings)


def main() -> None:
    """Serve to this machine."""
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=8000)


if __name__ == "__main__":
    main()
