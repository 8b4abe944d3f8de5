#!/bin/bash
# Runs in the image that holds Flux: writes its configuration and copies its view to where the training finds both.
set -eu

mainHost={{main-host}}
hosts="{{hosts}}"
root=/mnt/flux/config

echo "setting up Flux for ${mainHost} and ${hosts}"
export PATH="/opt/view/bin:${PATH}"
mkdir -p \
  "${root}/etc/flux/system/cron.d" \
  "${root}/etc/flux/config" \
  "${root}/var/lib/flux" \
  "${root}/run/flux" \
  "${root}/etc/curve"
echo "${hosts}" > "${root}/etc/flux/system/hostlist"

cat > "${root}/etc/flux/config/broker.toml" <<'END_OF_BROKER_CONFIGURATION'
{{broker}}
END_OF_BROKER_CONFIGURATION

# The view is a link into spack's store, and what it links to is under /opt/software: both must come along.
view=$(find /opt/views/._view -mindepth 1 -maxdepth 1 -type d | head -n 1)
mkdir -p /mnt/flux/view
cp -R "${view}/." /mnt/flux/view/
cp -R /opt/software /mnt/flux/
