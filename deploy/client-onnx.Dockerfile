# The edge client without torch, by the server's graphs (docs/graphs.md; from the repository's root, with BuildKit):
#
#   docker build -f deploy/client-onnx.Dockerfile -t heron-client-onnx .
#   docker run --init -v "$PWD/deploy/examples/client.toml:/etc/heron/client.toml:ro" \
#       -v "$PWD/certs:/etc/heron/certs:ro" -v heron:/var/lib/heron heron-client-onnx
#
# The client file says `certs = "/etc/heron/certs"`, and uid 10001 must be able to read the key: docs/trust.md.
# State (the instance key that lets the client rejoin as itself) lives in the volume /var/lib/heron, owned by uid 10001.

FROM python:3.11-slim AS deps
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_CONSTRAINT=/src/constraints.txt
WORKDIR /src
COPY constraints.txt ./
COPY pyproject.toml deploy/prune.sh ./
# scikit-learn without its own dependencies: only its digits file is read. Byte code is made once, here: uid 10001
# cannot write it.
RUN --mount=type=bind,source=deploy/wheelhouse,target=/wheelhouse \
    --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/heron \
    && python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = [d for e in ('onnx',) for d in p['optional-dependencies'][e]]; \
print(*p['dependencies'], *(d for d in extras if not d.startswith('heron-sfl')), sep='\n')" > requirements.txt \
    && install="pip --python /opt/heron/bin/python install --no-compile --find-links /wheelhouse" \
    && $install -r requirements.txt && $install --no-deps scikit-learn \
    && ./prune.sh /opt/heron/lib/python3.11/site-packages \
    && python -m compileall -q -j 0 -x py312 /opt/heron/lib/python3.11/site-packages

# Heron itself in a layer of its own: an update of a few hundred kilobytes, not of its libraries.
FROM deps AS app
COPY README.md LICENSE ./
COPY heron_core heron_core
COPY heron_client heron_client
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/heron/bin/python install --no-deps --target /opt/app . \
    && rm /opt/app/bin/heron-server /opt/app/bin/heron-simulate

# The system without what a client never reads, in one layer of its own: files of a layer below would stay in the image.
# Debian's package list and licences stay, for whoever looks after what is in it. Byte code as above.
FROM python:3.11-slim AS system
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/heron --shell /usr/sbin/nologin heron \
    && install -d -o heron -g heron /var/lib/heron \
    && cd /usr/local/lib/python3.11 \
    && rm -rf site-packages/* ensurepip idlelib lib2to3 pydoc_data test tkinter turtledemo config-3.11-* \
        lib-dynload/_test* lib-dynload/_tkinter.* /usr/local/include /usr/local/bin/pip* /usr/local/bin/wheel \
        /usr/share/info /usr/share/lintian /usr/share/locale /usr/share/man /var/cache/* /var/log/* \
    && find /usr/share/doc ! -type d ! -name copyright -delete && find /usr/share/doc -type d -empty -delete \
    && python -m compileall -q -j 0 .

FROM scratch
COPY --from=system / /
COPY --from=deps /opt/heron /opt/heron
COPY --from=app /opt/app /opt/app
ENV PATH=/opt/app/bin:/opt/heron/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    PYTHONPATH=/opt/app PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/heron
VOLUME /var/lib/heron
STOPSIGNAL SIGTERM
# The daemon touches `alive` in its state folder at every heartbeat.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD test -n "$(find /var/lib/heron/alive -newermt '60 seconds ago')"
ENTRYPOINT ["heron-client"]
CMD ["run", "/etc/heron/client.toml"]
