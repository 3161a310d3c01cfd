# The README's two commands in a container: `docker build -t medbench .`, then
#   docker run --rm medbench ./run_all.sh          set up, verify the recorded results, rebuild reports/, run the demo
#   docker run --rm medbench ./run_all.sh tests    lint, types, tests
# Results of one's own outlive the container in a volume: -v "$PWD/mine:/suite/mine" and `--results mine`.
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home medbench \
    && install -d -o medbench /suite
USER medbench
WORKDIR /suite

# The packages first: they change less often than the code, and are not installed again when only that changed.
COPY --chown=medbench requirements.lock pyproject.toml ./
RUN python -m venv .venv \
    && .venv/bin/python -m pip install -q --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock

COPY --chown=medbench . .
RUN ./run_all.sh setup
CMD ["./run_all.sh"]
