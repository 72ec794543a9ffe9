# Sourced before fio runs a job file of this folder: the usual values of variables that are not set. fio has no defaults for them.
: "${CEPH_CONF:=/etc/ceph/ceph.conf}" "${POOL:=rbd}" "${RUNTIME:=10}" "${DATA:=2g}" "${OBJECTS:=512}" "${IMAGE:=fio}"
export CEPH_CONF POOL RUNTIME DATA OBJECTS IMAGE
