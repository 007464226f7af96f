# cifl_tf as a BIDS App, without a GPU:
#
#   docker build -t cifl_tf .
#   docker run --rm -u "$(id -u):$(id -g)" -v /data/study:/bids:ro -v /data/features:/out \
#       cifl_tf features /bids /out participant --participant-label 01
#
# Other commands: docker run --rm --entrypoint cifl cifl_tf --help
FROM python:3.12-slim
WORKDIR /opt/cifl_tf
COPY setup.py pyproject.toml constraints.txt README.md ./
COPY cifl_tf cifl_tf
RUN pip install --no-cache-dir -c constraints.txt .
# Whoever runs it may have no home folder.
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /
ENTRYPOINT ["cifl", "cohort"]
