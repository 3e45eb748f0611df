# A model over HTTP (zoo serve), on the CPU:
#
#     docker build -t zoo .
#     docker run --rm -p 127.0.0.1:5001:5001 zoo
#     docker run --rm -p 127.0.0.1:5001:5001 -v "$PWD/runs/mine:/model:ro" zoo serve /model --host 0.0.0.0
#
# The first asks the model that comes with the zoo, the second one of yours: a run folder or a model folder.
# The server has no password: give it to other machines only behind something that has (mlflow/README.md).
FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir "build==1.6.1" && python -m build --wheel --outdir /wheels

FROM python:3.11-slim-bookworm
# The index to take torch from, as pytorch.org names it for the build that you want; without one pip's own, which on Linux
# brings a torch with CUDA: docker build --build-arg TORCH_INDEX=... -t zoo .
ARG TORCH_INDEX=
ENV PYTHONUNBUFFERED=1 ZOO_CACHE=/home/zoo/.cache/zoo
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /tmp/wheels
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch \
    && wheel=$(echo /tmp/wheels/*.whl) \
    && pip install --no-cache-dir --constraint /tmp/constraints.txt "crystal-tensor-zoo @ file://$wheel" \
    && rm -r /tmp/wheels /tmp/constraints.txt \
    && useradd --create-home --uid 10001 --user-group zoo \
    && mkdir -p /home/zoo/.cache/zoo && chown -R zoo:zoo /home/zoo/.cache
USER 10001:10001
WORKDIR /home/zoo
# The cache of weights and force constants outlives the container if it is a volume.
VOLUME /home/zoo/.cache/zoo
EXPOSE 5001
# /ping answers once the model is loaded.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5001/ping', timeout=9)"]
ENTRYPOINT ["zoo"]
# zoo binds 127.0.0.1 by default, which nobody outside the container reaches.
CMD ["serve", "--host", "0.0.0.0", "--port", "5001"]
