# The image of the DaemonSet: two static binaries and nothing else.
#   docker build --tag doorbell:0.1.0 .
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package doorbell-device-plugin --package doorbell-cni \
 && mkdir /out && cp target/*/release/doorbell target/*/release/doorbell-device-plugin /out/

FROM scratch
LABEL org.opencontainers.image.title="doorbell" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.description="VF-backed virtio sub-devices for pods, their doorbells proven" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/ /usr/bin/
ENTRYPOINT ["/usr/bin/doorbell-device-plugin"]
CMD ["run"]
