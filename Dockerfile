# A builder: everything that 'edgepack build' needs, in an environment pinned by constraints.txt, run by an ordinary user.
# This file was checked with hadolint; no image has been built from it yet.
#
#   docker build -t edgepack .
#   docker run --rm --user "$(id -u)" -v "$PWD:/project" edgepack build model.onnx --target raspberry-pi-5 --data pictures
#
# For PyTorch models add the extra and an index that has the CPU build which constraints.txt asks for; the CUDA build
# is refused by that pin:
#
#   docker build --build-arg EXTRAS=build,openvino,torch --build-arg PIP_EXTRA_INDEX_URL=... -t edgepack .

FROM python:3.11-slim AS build
ARG EXTRAS=build,openvino
ARG PIP_EXTRA_INDEX_URL
WORKDIR /source
COPY . .
RUN python -m venv /opt/edgepack \
 && /opt/edgepack/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt ".[$EXTRAS]"

FROM python:3.11-slim
COPY --from=build /opt/edgepack /opt/edgepack
# Any user may write the cache, as --user may name one that this image does not know.
RUN useradd --create-home --uid 1000 edgepack \
 && install -d -m 1777 /cache \
 && install -d -o edgepack -g edgepack /project
ENV PATH=/opt/edgepack/bin:$PATH \
    XDG_CACHE_HOME=/cache \
    ORT_DISABLE_TELEMETRY=1
USER 1000
WORKDIR /project
ENTRYPOINT ["edgepack"]
CMD ["--help"]
