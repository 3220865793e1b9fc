# docker build -t truckscape . && docker run --rm -v "$PWD:/data" truckscape run /data/scene.SAFE --out /data/layers
#
# The processor's build of torch is a tenth of the size of CUDA's. For a GPU:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 -t truckscape .
ARG PYTHON=3.11
FROM python:${PYTHON}-slim

# GDAL in rasterio's wheel reads XML with the system's expat; lightgbm needs the OpenMP runtime.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libexpat1 libgomp1 \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 truckscape
WORKDIR /app
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# Dependencies first: they change less often than the code, and are most of the image.
COPY constraints.txt ./
RUN pip install --no-cache-dir --index-url "${TORCH_INDEX}" --no-deps \
        $(grep -E '^(torch|torchvision)==' constraints.txt)
COPY pyproject.toml README.md LICENSE ./
COPY pipeline pipeline
COPY flows flows
RUN pip install --no-cache-dir -c constraints.txt '.[clouds]'
COPY configs configs
COPY prefect.yaml ./

ENV PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1 \
    PYTHONUNBUFFERED=1
USER truckscape
ENTRYPOINT ["truckscape"]
CMD ["--help"]
