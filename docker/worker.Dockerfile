# The light base: the head, the driver and every node that runs CPU stages.
# Build from the repository's root: docker build -f docker/worker.Dockerfile -t ffpdata:0.1 .
# Ray wants one Python, to the patch level, on all nodes: this image and gpu.Dockerfile take Ubuntu 24.04's.
FROM ubuntu:noble-20251013 AS build

ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements/build.txt requirements/base.txt requirements/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
    && python3 -m venv --without-pip /opt/ffpdata \
    && /opt/build/bin/uv pip install --no-cache --python /opt/ffpdata --require-hashes -r requirements/base.txt
COPY pyproject.toml README.md LICENSE ./
COPY pipelines pipelines
COPY prompts prompts
COPY ffpdata ffpdata
RUN VIRTUAL_ENV=/opt/build /opt/build/bin/uv build --no-cache --wheel --no-build-isolation --out-dir /tmp/dist \
    && /opt/build/bin/uv pip install --no-cache --python /opt/ffpdata --no-deps /tmp/dist/*.whl \
    && PATH="/opt/build/bin:$PATH" /opt/ffpdata/bin/ffpdata models install

FROM ubuntu:noble-20251013

LABEL org.opencontainers.image.title="ffpdata" \
      org.opencontainers.image.description="Builds paired video-editing datasets: CPU stages and the driver." \
      org.opencontainers.image.licenses="Apache-2.0"
# wget: the health probes of KubeRay.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 wget \
    && rm -rf /var/lib/apt/lists/* \
    && (userdel --remove ubuntu 2>/dev/null || true) \
    && useradd --uid 1000 --create-home --shell /bin/bash ffpdata \
    && install -d -o ffpdata -g ffpdata /data /runs
COPY --from=build /opt/ffpdata /opt/ffpdata
ENV PATH=/opt/ffpdata/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
USER 1000:1000
WORKDIR /home/ffpdata
CMD ["ffpdata", "--help"]
