# Starts Erlang's side of the comparison with the number of schedulers that the run wants: erlang.sh FOLDER list | run ...
folder=$1
shift
schedulers=2
[ "$1" = run ] && schedulers=$3
# All of them online, also when there are more than cores; room for idle1m.
exec erl -noshell -noinput +S "$schedulers:$schedulers" +P 4000000 -pa "$folder" -s bench main -extra "$@"
