# Starts the program for Erlang with the number of schedulers of the run:
#     erlang.sh FOLDER list | run ...
folder=$1
shift
schedulers=2
[ "$1" = run ] && schedulers=$3
# All schedulers are online, even if there are more than cores. +P leaves room for idle1m.
exec erl -noshell -noinput +S "$schedulers:$schedulers" +P 4000000 -pa "$folder" -s bench main -extra "$@"
