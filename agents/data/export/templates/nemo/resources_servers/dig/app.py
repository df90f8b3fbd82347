"""The resource server that configs/dig.yaml starts. Its options are in the rows."""

from dig_env.agents.integrations.nemo import DiGServer

if __name__ == "__main__":
    DiGServer.run_webserver()
