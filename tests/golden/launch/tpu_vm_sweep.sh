#!/bin/sh
# tiny-experiment-tiny-width-8 on v6e:2x2
set -eu
startup=$(mktemp)
trap 'rm -f "$startup"' EXIT
cat >"$startup" <<'STARTUP'
#!/bin/bash
# Runs on every host. JAX finds the other hosts through the machine's metadata.
set -u
for try in {0..10}; do
  docker rm --force tiny-experiment-tiny-width-8 >/dev/null 2>&1
  docker run --name tiny-experiment-tiny-width-8 --privileged --network=host --stop-timeout=120 --env=RESEARCH_JOIN_SECONDS=600 --volume=/mnt/nfs:/disk \
    registry.example/research:1 research run tests/tiny_experiment.py:widths text=corpus.txt steps=1_000 --only tiny/width_8 --workdir /disk/runs/tiny/width_8
  code=$?
  echo "try $try ended with $code"
  case $code in 0 | 2 | 3 | 4) exit "$code" ;; esac
  sleep $((try < 6 ? 1 << try : 60))
done
exit "$code"
STARTUP

gcloud compute tpus queued-resources create tiny-experiment-tiny-width-8 \
  --zone=us-east5-b \
  --runtime-version=v2-alpha-tpuv6e \
  --accelerator-type=v6e-4 \
  --node-id=tiny-experiment-tiny-width-8 \
  --metadata-from-file=startup-script="$startup"

#!/bin/sh
# tiny-experiment-tiny-width-16 on v6e:2x2
set -eu
startup=$(mktemp)
trap 'rm -f "$startup"' EXIT
cat >"$startup" <<'STARTUP'
#!/bin/bash
# Runs on every host. JAX finds the other hosts through the machine's metadata.
set -u
for try in {0..10}; do
  docker rm --force tiny-experiment-tiny-width-16 >/dev/null 2>&1
  docker run --name tiny-experiment-tiny-width-16 --privileged --network=host --stop-timeout=120 --env=RESEARCH_JOIN_SECONDS=600 --volume=/mnt/nfs:/disk \
    registry.example/research:1 research run tests/tiny_experiment.py:widths text=corpus.txt steps=1_000 --only tiny/width_16 --workdir /disk/runs/tiny/width_16
  code=$?
  echo "try $try ended with $code"
  case $code in 0 | 2 | 3 | 4) exit "$code" ;; esac
  sleep $((try < 6 ? 1 << try : 60))
done
exit "$code"
STARTUP

gcloud compute tpus queued-resources create tiny-experiment-tiny-width-16 \
  --zone=us-east5-b \
  --runtime-version=v2-alpha-tpuv6e \
  --accelerator-type=v6e-4 \
  --node-id=tiny-experiment-tiny-width-16 \
  --metadata-from-file=startup-script="$startup"

#!/bin/sh
# tiny-experiment-tiny-width-32 on v6e:2x2
set -eu
startup=$(mktemp)
trap 'rm -f "$startup"' EXIT
cat >"$startup" <<'STARTUP'
#!/bin/bash
# Runs on every host. JAX finds the other hosts through the machine's metadata.
set -u
for try in {0..10}; do
  docker rm --force tiny-experiment-tiny-width-32 >/dev/null 2>&1
  docker run --name tiny-experiment-tiny-width-32 --privileged --network=host --stop-timeout=120 --env=RESEARCH_JOIN_SECONDS=600 --volume=/mnt/nfs:/disk \
    registry.example/research:1 research run tests/tiny_experiment.py:widths text=corpus.txt steps=1_000 --only tiny/width_32 --workdir /disk/runs/tiny/width_32
  code=$?
  echo "try $try ended with $code"
  case $code in 0 | 2 | 3 | 4) exit "$code" ;; esac
  sleep $((try < 6 ? 1 << try : 60))
done
exit "$code"
STARTUP

gcloud compute tpus queued-resources create tiny-experiment-tiny-width-32 \
  --zone=us-east5-b \
  --runtime-version=v2-alpha-tpuv6e \
  --accelerator-type=v6e-4 \
  --node-id=tiny-experiment-tiny-width-32 \
  --metadata-from-file=startup-script="$startup"
