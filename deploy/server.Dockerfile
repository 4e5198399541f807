# The server: docker build -f deploy/server.Dockerfile -t heron-server .   (from the repository's root, with BuildKit)
#
#   docker run --init -v "$PWD/deploy/examples/run.toml:/etc/heron/run.toml:ro" \
#       -v "$PWD/certs/server:/etc/heron/certs:ro" -v heron:/var/lib/heron -p 50051:50051 heron-server
#
# The run file says `address = "0.0.0.0:50051"` and `certs = "/etc/heron/certs"`, and uid 10001 must be able to read the
# key: docs/trust.md.
# State (checkpoints, metrics, the final model) lives in the volume /var/lib/heron, owned by uid 10001.

FROM python:3.11-slim AS deps
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_CONSTRAINT=/src/constraints.txt
WORKDIR /src
RUN apt-get update && apt-get install -y --no-install-recommends binutils
COPY constraints.txt ./
# torch's CPU build: from deploy/wheelhouse when its wheel lies there, else from TORCH_INDEX.
RUN --mount=type=bind,source=deploy/wheelhouse,target=/wheelhouse \
    --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/heron \
    && torch="$(grep '^torch==' constraints.txt)+cpu" install="pip --python /opt/heron/bin/python install --no-compile" \
    && if ls /wheelhouse/torch-*cp311*_$(uname -m).whl >/dev/null 2>&1; \
       then $install --find-links /wheelhouse "$torch"; \
       else $install --extra-index-url "$TORCH_INDEX" "$torch"; fi
COPY pyproject.toml deploy/prune.sh ./
# scikit-learn without its own dependencies: only its digits file is read. Byte code is made once, here: uid 10001
# cannot write it, and compiling torch anew costs seconds at every start.
RUN --mount=type=bind,source=deploy/wheelhouse,target=/wheelhouse \
    --mount=type=cache,target=/root/.cache/pip \
    python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = [d for e in ('torch', 'onnx', 'export', 'server', 'plots') for d in p['optional-dependencies'][e]]; \
print(*p['dependencies'], *(d for d in extras if not d.startswith('heron-sfl')), sep='\n')" > requirements.txt \
    && install="pip --python /opt/heron/bin/python install --no-compile --find-links /wheelhouse" \
    && $install -r requirements.txt && $install --no-deps scikit-learn \
    && ./prune.sh /opt/heron/lib/python3.11/site-packages \
    && python -m compileall -q -j 0 -x py312 /opt/heron/lib/python3.11/site-packages

# Heron itself in a layer of its own: an update of a few hundred kilobytes, not of torch.
FROM deps AS app
COPY README.md LICENSE ./
COPY heron_core heron_core
COPY heron_client heron_client
COPY heron_server heron_server
COPY heron_simulator heron_simulator
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/heron/bin/python install --no-deps --target /opt/app .

FROM python:3.11-slim
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/heron --shell /usr/sbin/nologin heron \
    && install -d -o heron -g heron /var/lib/heron
COPY --from=deps /opt/heron /opt/heron
COPY --from=app /opt/app /opt/app
ENV PATH=/opt/app/bin:/opt/heron/bin:$PATH PYTHONPATH=/opt/app PYTHONUNBUFFERED=1 MPLCONFIGDIR=/tmp/matplotlib
USER 10001:10001
WORKDIR /var/lib/heron
VOLUME /var/lib/heron
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["heron-server", "health", "/etc/heron/run.toml"]
ENTRYPOINT ["heron-server"]
CMD ["run", "/etc/heron/run.toml"]
