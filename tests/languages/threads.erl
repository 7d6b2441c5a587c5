%% SPDX-License-Identifier: MIT
%%
%% threads.erl: Erlang's schedulers, whose compiled code has the stack pointer in a process's
%% heap: processes by the thousand, sockets, files by the pool of threads, a child.

-module(threads).
-export([main/0]).

main() ->
	Self = self(),
	[spawn(fun() -> Self ! {sum, lists:sum(lists:seq(1, I rem 100))} end) || I <- lists:seq(1, 1000)],
	io:format("processes ~p~n", [lists:sum([receive {sum, S} -> S end || _ <- lists:seq(1, 1000)])]),

	[spawn(fun() -> Self ! {sorted, length(lists:sort([erlang:phash2({I, K}) || K <- lists:seq(1, 20000)]))} end)
		|| I <- lists:seq(1, 20)],
	io:format("computing ~p~n", [lists:sum([receive {sorted, N} -> N end || _ <- lists:seq(1, 20)])]),

	{ok, Listening} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}, {backlog, 100}]),
	{ok, Port} = inet:port(Listening),
	spawn(fun() -> serve(Listening) end),
	[spawn(fun() -> Self ! {answer, ask(Port, I)} end) || I <- lists:seq(1, 50)],
	io:format("sockets ~p~n", [lists:all(fun(X) -> X end, [receive {answer, A} -> A end || _ <- lists:seq(1, 50)])]),

	Dir = os:getenv("TMPDIR", "/tmp"),
	Names = [filename:join(Dir, "threads." ++ os:getpid() ++ "." ++ integer_to_list(I)) || I <- lists:seq(1, 20)],
	[ok = file:write_file(Name, binary:copy(<<"text">>, 1000)) || Name <- Names],
	io:format("files ~p~n", [lists:sum([begin {ok, B} = file:read_file(Name), file:delete(Name), size(B) end || Name <- Names])]),

	timer:sleep(20),
	io:format("~s", [os:cmd("echo $((6 * 7))")]),
	halt(0).

serve(Listening) ->
	{ok, S} = gen_tcp:accept(Listening),
	spawn(fun() ->
		receive go -> ok end,
		{ok, <<I:32>>} = gen_tcp:recv(S, 4),
		ok = gen_tcp:send(S, <<(I + 1):32>>)
	end) ! go,
	serve(Listening).

ask(Port, I) ->
	{ok, S} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}]),
	ok = gen_tcp:send(S, <<I:32>>),
	{ok, <<J:32>>} = gen_tcp:recv(S, 4),
	J == I + 1.
