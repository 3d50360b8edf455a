%% The program for Erlang: a process for each actor. Mailboxes are never bounded.
%%
%%   list | run WORKLOAD WORKERS SCALE LIMIT_MS ACTORS MESSAGES OPS ANSWER
%%
%% A run has a warm-up and the pass that counts, and prints one line of JSON.
-module(bench).
-export([main/0]).

runs() ->
    [pingpong, pairs, counting, fanin, fjthrput, fjcreate, threadring, big, chameneos, fib, idle100k, idle1m].

left_out() ->
    [{["idlecpu"], "its clock of CPU time counts in ms"},
     {["fjthrput-work", "skew", "timeslice", "burst"], "the work in a message would be another program's"},
     {["ask1", "ask8"], "has no threads outside"},
     {["pingpong-bounded", "counting-bounded", "fanin-bounded", "fjthrput-bounded"], "no bounded mailboxes"}].

main() ->
    case init:get_plain_arguments() of
        ["list"] ->
            Names = [io_lib:format("\"~s\"", [R]) || R <- runs()],
            Reasons = [io_lib:format("\"~s\":\"~s\"", [N, Why]) || {All, Why} <- left_out(), N <- All],
            io:format("{\"peer\":\"erlang\",\"runs\":[~s],\"left_out\":{~s}}~n",
                      [lists:join(",", Names), lists:join(",", Reasons)]);
        ["run", Name, Workers, _Scale, _Limit | Numbers] ->
            [Actors, Messages, Ops, Answer] = [list_to_integer(N) || N <- Numbers],
            one(list_to_existing_atom(Name), Name, Workers, Actors, Messages, Ops, Answer)
    end,
    halt().

one(Run, Name, Workers, Actors, Messages, Ops, Expected) ->
    case lists:member(Run, [idle100k, idle1m]) of
        true -> once;
        false -> apart(Run, Actors, Messages), timer:sleep(10)
    end,
    {Answer, Wall, Cpu, Measured} = apart(Run, Actors, Messages),
    Label = case Measured of none -> "ns"; _ -> "bytes" end,
    Value = case Measured of none -> Wall / Ops; _ -> float(Measured) end,
    io:format("{\"peer\":\"erlang\",\"workload\":\"~s\",\"workers\":~s,\"actors\":~b,\"messages\":~b,\"cut\":false,"
              "\"ok\":~s,\"answer\":~b,\"expected\":~b,\"ops\":~b,\"wall_ns\":~b,\"cpu_ns\":~b,\"peak_kb\":~b,"
              "\"ideal_ns\":null,\"figures\":{\"~s\":~.4f}}~n",
              [Name, Workers, Actors, Messages, Answer =:= Expected, Answer, Expected, Ops, Wall, Cpu,
               status(<<"VmHWM:">>), Label, Value]).

%% Runs each pass in a separate process, so that no mailbox is left over.
apart(Run, Actors, Messages) ->
    Main = self(),
    spawn_link(fun() -> Main ! {measured, pass(Run, Actors, Messages)} end),
    receive {measured, Result} -> Result end.

pass(pingpong, _, Rounds) -> pairs(1, Rounds);
pass(pairs, Pairs, Rounds) -> pairs(Pairs, Rounds);
pass(counting, Actors, Messages) -> produce(Actors, Messages);
pass(fanin, Actors, Messages) -> produce(Actors, Messages);
pass(fjthrput, Actors, Messages) ->
    Main = self(),
    Leaves = [spawn(fun() -> leaf(Messages, 0, Main) end) || _ <- lists:seq(1, Actors)],
    timed(fun() -> spawn(fun() -> root(Leaves, Messages) end), sum(Actors) end);
pass(fjcreate, Actors, Step) ->
    Main = self(),
    Collector = spawn(fun() -> counter(Actors, 0, Main) end),
    timed(fun() -> spawn(fun() -> self() ! more, spawner(Actors, Step, Collector) end), sum(1) end);
pass(threadring, Actors, Hops) ->
    Main = self(),
    Nodes = [spawn(fun() -> node_wait(Id, Main) end) || Id <- lists:seq(0, Actors - 1)],
    lists:foreach(fun({Node, Next}) -> Node ! {next, Next} end, lists:zip(Nodes, tl(Nodes) ++ [hd(Nodes)])),
    Result = timed(fun() -> hd(Nodes) ! {token, Hops}, sum(1) end),
    [exit(Node, kill) || Node <- Nodes],
    Result;
pass(big, Actors, Pings) ->
    Main = self(),
    All = [spawn(fun() -> big_wait(Id, Pings, Main) end) || Id <- lists:seq(0, Actors - 1)],
    Tuple = list_to_tuple(All),
    [Actor ! {all, Tuple} || Actor <- All],
    Result = timed(fun() -> [Actor ! start || Actor <- All], sum(Actors) end),
    [exit(Actor, kill) || Actor <- All],
    Result;
pass(chameneos, Actors, Meetings) ->
    Main = self(),
    Mall = spawn(fun() -> mall(none, Meetings, Actors, 0, Main) end),
    All = [spawn(fun() -> receive start -> go(Id rem 3, 0, Mall) end end) || Id <- lists:seq(1, Actors)],
    timed(fun() -> [Chameneo ! start || Chameneo <- All], sum(1) end);
pass(fib, _, N) ->
    Main = self(),
    timed(fun() -> spawn(fun() -> fib(N, Main) end), sum(1) end);
pass(Idle, Actors, _) when Idle =:= idle100k; Idle =:= idle1m ->
    [touched(Actor) || Actor <- idle_actors(100)],
    Before = status(<<"VmRSS:">>),
    {Kept, Wall, Cpu, none} = timed(fun() -> All = idle_actors(Actors), [touched(A) || A <- All], All end),
    timer:sleep(50),
    {length(Kept), Wall, Cpu, (status(<<"VmRSS:">>) - Before) * 1024 / Actors}.

%% Returns the answer, and the wall and CPU time of the work in between.
timed(Body) ->
    Cpu = cpu(),
    Begin = erlang:monotonic_time(nanosecond),
    Answer = Body(),
    Wall = erlang:monotonic_time(nanosecond) - Begin,
    {Answer, Wall, cpu() - Cpu, none}.

%% Returns user and system time of the whole process, counted in ms.
cpu() ->
    {Ms, _} = erlang:statistics(runtime),
    Ms * 1_000_000.

status(Field) ->
    {ok, Text} = file:read_file("/proc/self/status"),
    [_, After] = binary:split(Text, Field),
    [Kb | _] = string:lexemes(After, " \t\n"),
    binary_to_integer(Kb).

sum(0) -> 0;
sum(Reports) -> receive {done, N} -> N + sum(Reports - 1) end.

pairs(Pairs, Rounds) ->
    Main = self(),
    Pings = [begin
                 Pong = spawn(fun() -> receive {ping, Ping} -> pong(Ping) end end),
                 Ping = spawn(fun() -> receive start -> ping(Pong, Rounds, 0, Main) end end),
                 Pong ! {ping, Ping},
                 Ping
             end || _ <- lists:seq(1, Pairs)],
    timed(fun() -> [Ping ! start || Ping <- Pings], sum(Pairs) end).

ping(Pong, 0, Got, Main) -> Pong ! stop, Main ! {done, Got};
ping(Pong, Left, Got, Main) ->
    Pong ! ping,
    receive pong -> ping(Pong, Left - 1, Got + 1, Main) end.

pong(Ping) ->
    receive
        ping -> Ping ! pong, pong(Ping);
        stop -> ok
    end.

produce(Producers, Messages) ->
    Main = self(),
    Counter = spawn(fun() -> counter(Producers * Messages, 0, Main) end),
    All = [spawn(fun() -> receive start -> producer(Counter, 0, Messages) end end) || _ <- lists:seq(1, Producers)],
    timed(fun() -> [Producer ! start || Producer <- All], sum(1) end).

counter(0, Sum, Main) -> Main ! {done, Sum};
counter(Left, Sum, Main) -> receive {number, N} -> counter(Left - 1, Sum + N, Main) end.

producer(_, Messages, Messages) -> ok;
producer(Counter, N, Messages) -> Counter ! {number, N}, producer(Counter, N + 1, Messages).

leaf(0, Got, Main) -> Main ! {done, Got};
leaf(Left, Got, Main) -> receive item -> leaf(Left - 1, Got + 1, Main) end.

root(_, 0) -> ok;
root(Leaves, Rounds) -> [Leaf ! item || Leaf <- Leaves], root(Leaves, Rounds - 1).

spawner(0, _, _) -> ok;
spawner(Left, Step, Collector) ->
    receive more -> ok end,
    Now = min(Left, Step),
    children(Now, Collector),
    self() ! more,
    spawner(Left - Now, Step, Collector).

children(0, _) -> ok;
children(N, Collector) ->
    Child = spawn(fun() -> receive work -> Collector ! {number, 1} end end),
    Child ! work,
    children(N - 1, Collector).

node_wait(Id, Main) -> receive {next, Next} -> node(Id, Next, Main) end.

node(Id, Next, Main) ->
    receive
        {token, 0} -> Main ! {done, Id};
        {token, Left} -> Next ! {token, Left - 1}
    end,
    node(Id, Next, Main).

big_wait(Id, Pings, Main) ->
    rand:seed(exsss, {Id, Id, Id}),
    receive {all, All} -> receive start -> big_ping(Id, All, Pings, 0, Main) end end.

big_ping(Id, All, 0, Acked, Main) -> Main ! {done, Acked}, big(Id, All, 0, Acked, Main);
big_ping(Id, All, Left, Acked, Main) ->
    Other = (Id + rand:uniform(tuple_size(All) - 1)) rem tuple_size(All),
    element(Other + 1, All) ! {ping, self()},
    big(Id, All, Left - 1, Acked, Main).

big(Id, All, Left, Acked, Main) ->
    receive
        {ping, From} -> From ! pong, big(Id, All, Left, Acked, Main);
        pong -> big_ping(Id, All, Left, Acked + 1, Main)
    end.

mall(_, _, 0, Sum, Main) -> Main ! {done, Sum};
mall(Waiting, Left, Chameneos, Sum, Main) ->
    receive
        {meet, _, Who} when Left =:= 0 -> Who ! over, mall(Waiting, Left, Chameneos, Sum, Main);
        {meet, _, Who} when Waiting =:= none -> mall(Who, Left, Chameneos, Sum, Main);
        {meet, _, _} = Meet -> Waiting ! Meet, mall(none, Left - 1, Chameneos, Sum, Main);
        {met, N} -> mall(Waiting, Left, Chameneos - 1, Sum + N, Main)
    end.

go(Colour, Met, Mall) ->
    Mall ! {meet, Colour, self()},
    receive
        {meet, Other, Who} ->
            New = third(Colour, Other),
            Who ! {change, New},
            go(New, Met + 1, Mall);
        {change, New} -> go(New, Met + 1, Mall);
        over -> Mall ! {met, Met}
    end.

third(Colour, Colour) -> Colour;
third(Colour, Other) -> 3 - Colour - Other.

fib(N, Parent) when N < 2 -> Parent ! {done, N};
fib(N, Parent) ->
    Me = self(),
    spawn(fun() -> fib(N - 1, Me) end),
    spawn(fun() -> fib(N - 2, Me) end),
    Parent ! {done, sum(2)}.

idle_actors(Actors) ->
    Main = self(),
    All = [spawn(fun() -> idle(Main, 0, 0) end) || _ <- lists:seq(1, Actors)],
    [Actor ! touch || Actor <- All],
    All.

touched(Actor) -> receive {touched, Actor} -> ok end.

idle(Main, Sum, Count) ->
    receive touch -> Main ! {touched, self()}, idle(Main, Sum + 1, Count + 1) end.
