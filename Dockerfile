# dig-env with Blender, on the CPU. In a clone:
#
#   docker build -t dig-env .
#   docker build -t dig-env-train --build-arg EXTRAS=blender,serve,train .   # with torch, for CPUs
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG EXTRAS=blender,serve
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN python3 -m venv /opt/venv
# A build of torch without CUDA, which is gigabytes smaller.
RUN case ",${EXTRAS}," in *,train,*|*,all,*) /opt/venv/bin/pip install --no-cache-dir \
    --constraint constraints.txt --index-url https://download.pytorch.org/whl/cpu torch ;; esac
COPY agents ./agents
COPY dig_env ./dig_env
COPY scenes ./scenes
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt ".[${EXTRAS}]"

FROM ${BASE}
# What Blender links to; it opens no window.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libx11-6 libxrender1 libxfixes3 libxi6 \
       libxext6 libxkbcommon0 libsm6 libice6 libgl1 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 dig && install -d -o dig -g dig /work
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
USER dig
WORKDIR /work
EXPOSE 8000
CMD ["dig-env", "serve", "--host", "0.0.0.0"]
