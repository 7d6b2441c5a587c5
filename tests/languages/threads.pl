# SPDX-License-Identifier: MIT
#
# threads.pl: what a program in Perl does with its interpreter threads: shared variables,
# queues, conditions, semaphores, signals to threads, detached ones, children and sockets.

use strict;
use warnings;
use threads ('yield', 'stack_size' => 256 * 1024);
use threads::shared;
use Thread::Queue;
use Thread::Semaphore;
use IO::Socket::INET;
use Time::HiRes qw(sleep time);

$| = 1;

sub check {
	my ($what, $ok) = @_;
	die "$what went wrong\n" unless $ok;
	print "$what\n";
}

my $count : shared = 0;
$_->join for map { threads->create(sub { for (1 .. 200) { lock($count); $count++; } }) } 1 .. 16;
check 'shared variables', $count == 3200;

my $queue = Thread::Queue->new;
my @takers = map { threads->create(sub { my $sum = 0; while (defined(my $x = $queue->dequeue)) { $sum += $x } $sum }) } 1 .. 4;
$queue->enqueue(1 .. 500);
$queue->end;
my $sum = 0;
$sum += $_->join for @takers;
check 'queues', $sum == 125250;

my $turn : shared = 0;
my @seen : shared;
$_->join for map {
	my $mine = $_;
	threads->create(sub {
		lock($turn);
		cond_wait($turn) until $turn == $mine;
		push @seen, $mine;
		$turn++;
		cond_broadcast($turn);
	});
} 0 .. 7;
check 'conditions', "@seen" eq '0 1 2 3 4 5 6 7';

my $late = do { my $never : shared = 0; lock($never); cond_timedwait($never, time + 0.05) };
check 'time limits', !$late;

my $places = Thread::Semaphore->new(2);
my ($inside, $most) = (0, 0);
share($inside);
share($most);
$_->join for map {
	threads->create(sub {
		$places->down;
		{ lock($inside); $inside++; $most = $inside if $inside > $most; }
		sleep 0.005;
		{ lock($inside); $inside--; }
		$places->up;
	})
} 1 .. 8;
check 'semaphores', $most <= 2 && $inside == 0;

my $ready : shared = 0;
my $told = threads->create(sub {
	local $SIG{USR1} = sub { threads->exit };
	{ lock($ready); $ready = 1; cond_signal($ready); }
	sleep 0.005 while 1;
});
{ lock($ready); cond_wait($ready) until $ready; }
$told->kill('USR1');
$told->join;
check 'signals to threads', !$told->is_running;

my $dead = threads->create({'context' => 'list'}, sub { no warnings 'threads'; die {code => 5} });
$dead->join;
check 'errors', ref($dead->error) eq 'HASH' && $dead->error->{code} == 5;

my $done : shared = 0;
threads->create(sub { sleep 0.01; lock($done); $done++; cond_signal($done) })->detach for 1 .. 4;
{ lock($done); cond_wait($done) while $done < 4; }
check 'detached threads', 1;

my @out = map { $_->join } map { my $n = $_; threads->create(sub { my $x = `echo \$(($n * 2))`; chomp $x; $x }) } 1 .. 6;
check 'children', "@out" eq '2 4 6 8 10 12';

my $pid = fork // die;
if ($pid == 0) {
	my $x = threads->create(sub { 9 })->join;
	threads->exit($x) if 0;
	exec 'sh', '-c', "exit $x";
}
waitpid $pid, 0;
check 'fork', $? >> 8 == 9;

my $server = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1') or die;
my $port = $server->sockport;
my $accepting = threads->create(sub {
	for (1 .. 10) {
		my $s = $server->accept;
		my $line = <$s>;
		print $s uc $line;
		close $s;
	}
});
my @answers = map { $_->join } map {
	my $n = $_;
	threads->create(sub {
		my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) or die;
		print $s "hello $n\n";
		scalar <$s>;
	});
} 1 .. 10;
$accepting->join;
check 'sockets', join('', @answers) eq join('', map { "HELLO $_\n" } 1 .. 10);
