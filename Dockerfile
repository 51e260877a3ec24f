# docker build -t embedd . && docker run -p 8000:8000 -v embedd:/var/lib/embedd embedd
FROM debian:12-slim AS build
WORKDIR /src
COPY tools/install-deps tools/install-deps
RUN tools/install-deps deb
COPY . .
RUN make deb && mv build-deb/*.deb /embedd.deb

FROM debian:12-slim
COPY --from=build /embedd.deb /tmp/embedd.deb
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends /tmp/embedd.deb ca-certificates \
 && rm -rf /var/lib/apt/lists/* /tmp/embedd.deb \
 && useradd --system --home-dir /var/lib/embedd --create-home embedd
USER embedd
WORKDIR /var/lib/embedd
VOLUME /var/lib/embedd
# Everything inside the container may reach it; set EMBEDD_API_KEYS where others can.
ENV EMBEDD_LISTEN=:8000 EMBEDD_DATA_DIR=/var/lib/embedd HF_HOME=/var/lib/embedd/huggingface EMBEDD_LOG=info,json
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["embedd", "doctor", "--quiet", "--ready", "http://127.0.0.1:8000"]
ENTRYPOINT ["embedd"]
CMD ["serve"]
