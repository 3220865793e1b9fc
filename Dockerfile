# docker build -t truckscape . && docker run --rm -v "$PWD:/data" truckscape run /data/scene.SAFE --out /data/layers
#
# The default build of torch is for CPUs, a tenth of the size of the build with CUDA. PyPI has the one for GPUs:
#   docker build --build-arg TORCH_INDEX=https://pypi.org/simple -t truckscape .
# Without a Docker engine: docker/build
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS system
# GDAL in rasterio's wheel needs the system's expat; lightgbm needs the OpenMP runtime.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libexpat1 libgomp1 python3 \
    && rm -rf /var/lib/apt/lists/*

FROM system AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/truckscape
ENV PATH=/opt/truckscape/bin:${PATH}
WORKDIR /build
# Dependencies first: they change less often than the code, and are most of the image.
COPY constraints.txt ./
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url "${TORCH_INDEX}" --no-deps \
        $(grep -E '^(torch|torchvision)==' constraints.txt)
COPY pyproject.toml README.md LICENSE ./
ARG EXTRAS=clouds,pmtiles,postgresql,remote
RUN mkdir pipeline flows \
    && touch pipeline/__init__.py flows/__init__.py \
    && pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]" \
    && rm -rf build *.egg-info pipeline flows
COPY pipeline pipeline
COPY flows flows
RUN pip install --no-cache-dir --no-deps --force-reinstall . \
    && rm -rf /opt/truckscape/lib/python3*/site-packages/torch/include

FROM system
RUN useradd --create-home --uid 1000 truckscape \
    && mkdir /data \
    && chown truckscape /data
COPY --from=build /opt/truckscape /opt/truckscape
WORKDIR /app
# Prefect loads the flows of prefect.yaml from their files.
COPY flows flows
COPY configs configs
COPY prefect.yaml ./
ENV PATH=/opt/truckscape/bin:${PATH} \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1 \
    PYTHONUNBUFFERED=1
USER truckscape
VOLUME /data
HEALTHCHECK --interval=10m --timeout=60s --start-period=60s CMD ["truckscape", "doctor", "--out", "/data"]
ENTRYPOINT ["truckscape"]
CMD ["--help"]
