#!/bin/sh
# tiny on 2xv5p:4x4x4
set -eu
startup=$(mktemp)
trap 'rm -f "$startup"' EXIT
cat >"$startup" <<'STARTUP'
#!/bin/bash
# Runs on every host. JAX finds the other hosts through the machine's metadata.
set -u
for try in {0..10}; do
  docker rm --force tiny >/dev/null 2>&1
  docker run --name tiny --privileged --network=host --stop-timeout=120 --env=RESEARCH_JOIN_SECONDS=600 --env='GREETING=it'"'"'s a' --volume=/mnt/nfs:/disk \
    registry.example/research:1 research run tests/tiny_experiment.py text=corpus.txt steps=1_000 --workdir /disk/runs
  code=$?
  echo "try $try ended with $code"
  case $code in 0 | 2 | 3 | 4) exit "$code" ;; esac
  sleep $((try < 6 ? 1 << try : 60))
done
exit "$code"
STARTUP

gcloud compute tpus queued-resources create tiny \
  --zone=us-east5-a \
  --runtime-version=v2-alpha-tpuv5 \
  --accelerator-type=v5p-128 \
  --node-count=2 \
  --node-prefix=tiny \
  --spot \
  --metadata-from-file=startup-script="$startup"
