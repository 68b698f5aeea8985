# syntax=docker/dockerfile:1
# Two stages: the official Swift image builds the Debian package, Debian's slim image installs it. The container runs as its
# own user, keeps its queue in a volume, and takes its settings from the environment:
#
#   docker build -t sluice .
#   docker run -d --name sluice -p 5044:5044 -p 5000:5000 -p 5001:5001 -p 127.0.0.1:9600:9600 \
#     -v sluice-data:/var/lib/sluice -e ELASTICSEARCH_HOSTS=http://elasticsearch:9200 --stop-timeout 40 sluice
#
# Several servers are separated by commas; credentials are ELASTICSEARCH_USER and ELASTICSEARCH_PASSWORD, or
# ELASTICSEARCH_API_KEY. The head of pipelines/aura.yml lists all variables.

ARG SWIFT_IMAGE=swift:6.3-bookworm
ARG DEBIAN_IMAGE=debian:12-slim

FROM ${SWIFT_IMAGE} AS builder
WORKDIR /work
# The packages first: they change seldom, and their layer is kept while only sources change.
COPY script/bootstrap script/bootstrap
RUN script/bootstrap
COPY . .
RUN script/package /package

FROM ${DEBIAN_IMAGE}
# Fixed numbers, so that the owner of a volume is the same from image to image.
RUN groupadd --system --gid 5044 sluice \
 && useradd --system --uid 5044 --gid sluice --home-dir /var/lib/sluice --no-create-home --shell /usr/sbin/nologin sluice
RUN --mount=type=bind,from=builder,source=/package,target=/package \
    apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates tzdata /package/sluice_*.deb \
 && rm -rf /var/lib/apt/lists/*

# Inside a container the API is reachable only through ports that somebody publishes; publish 9600 to the host's loopback,
# or give it a password (SLUICE_API_AUTH_TYPE=basic …), as the example above does.
ENV SLUICE_API_HTTP_HOST=0.0.0.0 \
    SLUICE_LOG_FORMAT=json
USER sluice
WORKDIR /var/lib/sluice
VOLUME /var/lib/sluice
EXPOSE 5044 5000 5001 9600
STOPSIGNAL SIGTERM
# The API answers: the process lives and serves. A cluster that is away is no reason to restart, so it is not asked for here.
# With SLUICE_API_SSL_ENABLED=true the question would have to be asked over TLS, which this image has no program for: the open port then is enough.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
  CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${SLUICE_API_HTTP_PORT:-9600} && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && { [[ ${SLUICE_API_SSL_ENABLED:-false} == true ]] || { read -r -t 4 _ status _ <&3 && [[ $status == 200 || $status == 401 ]]; }; }"]
ENTRYPOINT ["sluice"]
CMD ["run", "-c", "/etc/sluice/sluice.yml", "-p", "/etc/sluice/pipelines", "--data", "/var/lib/sluice"]
