# The gateway alone: no compiler, no package manager of its own, nothing written outside the ledger's volume.
#   docker run --read-only -v ledger:/var/lib/eksgateway -v ./config.yaml:/etc/eksgateway/config.yaml:ro …
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv --without-pip /opt/eksgateway
WORKDIR /src
# The locked packages first: a change of the code does not install them again. Wheels only, so that
# nothing is compiled here either.
COPY requirements/image.lock requirements/
RUN python3 -m pip --python /opt/eksgateway install --require-hashes --only-binary=:all: -r requirements/image.lock
COPY pyproject.toml README.md ./
COPY policies/eksgateway policies/eksgateway
COPY protos protos
COPY third_party third_party
COPY server server
RUN python3 -m pip --python /opt/eksgateway install --no-deps --no-build-isolation . \
 && python3 -m pip --python /opt/eksgateway uninstall --yes hatchling pathspec pluggy trove-classifiers
# Keeps the policy's machine code, which a start would compile in 0.3 s of CPU time. On an older CPU it still does.
RUN echo '{"eksgateway": {"grants": []}}' > none.json \
 && CACHE_DIRECTORY=/opt/eksgateway/cache /opt/eksgateway/bin/eksgateway policy check none.json \
 && chmod -R go+rX /opt/eksgateway/cache

FROM ${BASE}
COPY --from=build /opt/eksgateway /opt/eksgateway
# A number and no name: Kubernetes can check runAsNonRoot without reading the image's passwd file.
RUN install -d -m 0700 -o 10001 -g 10001 /var/lib/eksgateway
ENV PATH=/opt/eksgateway/bin:$PATH CACHE_DIRECTORY=/opt/eksgateway/cache \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
VOLUME /var/lib/eksgateway
EXPOSE 50051
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
  CMD ["eksgateway", "health", "--config", "/etc/eksgateway/config.yaml"]
ENTRYPOINT ["eksgateway"]
CMD ["serve", "--config", "/etc/eksgateway/config.yaml"]
