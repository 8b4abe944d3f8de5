#!/bin/bash
# Runs in the image of the training: makes Flux usable there, then starts a broker. The first host runs the command.

mainHost="{{main-host}}"
root=/mnt/flux/config
view=/mnt/flux/view
command="$*"

# Behind what the image brings, which goes first: both may have a Python.
export PATH="${PATH}:${view}/bin"
mkdir -p /opt/software
cp -R /mnt/flux/software/. /opt/software/

# Flux runs with the Python that it was built with.
python=$(find "${view}/lib" -maxdepth 1 -type d -name 'python3*' | head -n 1)
if [ -n "${python}" ]; then
  interpreter="${view}/bin/$(basename "${python}")"
  if [ -f "${interpreter}" ]; then
    ln -sf "${interpreter}" "${view}/bin/python"
    ln -sf "${interpreter}" "${view}/bin/python3"
  fi
  export PYTHONPATH="${PYTHONPATH:-}:${python}/site-packages"
fi
export FLUX_RC_EXTRA="${view}/etc/flux/rc1.d"

# Flux refuses a certificate that others can read.
install -m 0600 /curve/curve.cert "${root}/etc/curve/curve.cert"

hosts=$(cat "${root}/etc/flux/system/hostlist")
flux R encode --hosts="${hosts}" {{resources}} > "${root}/etc/flux/system/R"

export STATE_DIR="${root}/var/lib/flux"
export FLUX_OUTPUT_DIR=/tmp/fluxout
mkdir -p "${STATE_DIR}" "${FLUX_OUTPUT_DIR}" "${root}/etc/flux/system/cron.d" "${root}/run/flux"
options=(
  "-Scron.directory=${root}/etc/flux/system/cron.d"
  "-Stbon.fanout=256"
  "-Srundir=${root}/run/flux"
  "-Sstatedir=${STATE_DIR}"
  "-Slocal-uri=local://${root}/run/flux/local"
  "-Slog-stderr-level=0"
  "-Slog-stderr-mode=local"
)

if [ "$(hostname)" = "${mainHost}" ]; then
  if [ -z "${command}" ]; then
    exec flux broker --config-path "${root}/etc/flux/config" "${options[@]}"
  fi
  # The command is words, to be split as the TrainJob's were joined.
  # shellcheck disable=SC2086
  exec flux start -o --config "${root}/etc/flux/config" "${options[@]}" flux run {{flags}} ${command}
fi

# The first host's broker may not be there yet.
until flux start -o --config "${root}/etc/flux/config" "${options[@]}"; do
  echo "the broker ended with $?; trying again in 15 s"
  sleep 15
done
