# One image for every command: `up` (the default), `gateway`, `actor --gpu N`, `rebuild`, `keys …`. docker-compose.yml
# runs the parts apart. GPUs are lent by the host's NVIDIA container toolkit; the image itself holds no CUDA.
ARG BUN_VERSION=1.4.5

FROM oven/bun:${BUN_VERSION}-slim AS packages
WORKDIR /app
COPY package.json bun.lock bunfig.toml ./
# Without the types that Elysia names as its peers, a third of the whole.
RUN bun install --frozen-lockfile --production --omit=peer

FROM oven/bun:${BUN_VERSION}-slim
WORKDIR /app
# Written by nobody at run time: the user below may read them, and write /data alone.
COPY --from=packages /app/node_modules ./node_modules
COPY package.json bunfig.toml models.yaml LICENSE ./
COPY nats ./nats
COPY runners ./runners
COPY plugins ./plugins
COPY src ./src
RUN mkdir /data && chown bun:bun /data

ENV DATA_DIR=/data \
    HOST=0.0.0.0 \
    PORT=8000 \
    BUN_CONFIG_MAX_HTTP_REQUESTS=4096 \
    BUN_RUNTIME_TRANSPILER_CACHE_PATH=0
USER bun
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# Alive, not ready: a gateway that waits for its broker must not be killed for it. Actors have their own in the compose file.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["bun", "-e", "process.exit((await fetch(`http://127.0.0.1:${process.env.PORT}/health/live`)).ok ? 0 : 1)"]
ENTRYPOINT ["bun", "src/main.ts"]
CMD ["up"]
