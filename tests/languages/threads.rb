# SPDX-License-Identifier: MIT
#
# threads.rb: what a program in Ruby does with threads: queues, locks, conditions, time
# limits, kill and raise into a thread, fibers, ractors, collections, sockets, children.

require 'socket'
require 'timeout'
require 'open3'

def check(what)
  raise "#{what} went wrong" unless yield
  puts what
end

def threads(n)
  (0...n).map { |i| Thread.new { yield i } }.map(&:value)
end

check 'mutexes and queues' do
  queue, lock, sum = SizedQueue.new(8), Mutex.new, 0
  takers = (0...8).map do
    Thread.new do
      while (x = queue.pop) >= 0
        lock.synchronize { sum += x }
      end
    end
  end
  threads(8) { |i| 200.times { |k| queue << k + i } }
  8.times { queue << -1 }
  takers.each(&:join)
  sum == 8 * 199 * 200 / 2 + 200 * 28
end

check 'conditions' do
  lock, cond, turn, seen = Mutex.new, ConditionVariable.new, 0, []
  threads(10) do |i|
    lock.synchronize do
      cond.wait(lock) until turn == i
      seen << i
      turn += 1
      cond.broadcast
    end
  end
  seen == (0...10).to_a
end

check 'time limits' do
  late = threads(20) do
    Timeout.timeout(0.05) { sleep 100 }
    false
  rescue Timeout::Error
    true
  end
  spinning = begin
    Timeout.timeout(0.05) { loop {} }
  rescue Timeout::Error
    true
  end
  late.all? && spinning
end

check 'kill, raise and wakeup' do
  sleeping = Thread.new { begin; sleep; ensure; Thread.current[:ended] = true; end }
  spinning = Thread.new { loop {} }
  reading = Thread.new { r, = IO.pipe; r.read }
  told = Thread.new { begin; sleep; rescue ArgumentError => e; e.message; end }
  Thread.pass until [sleeping, reading, told].all?(&:stop?)
  [sleeping, spinning, reading].each(&:kill).each(&:join)
  told.raise(ArgumentError, 'told')
  woken = Thread.new { Thread.stop; :woken }
  Thread.pass until woken.stop?
  woken.wakeup
  sleeping[:ended] && told.value == 'told' && woken.value == :woken
end

check 'exceptions and thread-locals' do
  threads(20) do |i|
    Thread.current[:mine] = i
    Thread.pass
    begin
      raise IndexError, i.to_s
    rescue IndexError => e
      e.message.to_i == Thread.current[:mine]
    end
  end.all?
end

check 'deep recursion' do
  deep = ->(n) { deep.(n + 1) }
  threads(4) { begin; deep.(0); rescue SystemStackError; true; end }.all?
end

check 'fibers in threads' do
  threads(10) do |i|
    f = Fiber.new { 100.times { |k| Fiber.yield k * i }; :done }
    101.times.map { f.resume }.last == :done
  end.all?
end

check 'ractors' do
  $VERBOSE = nil
  (1..4).map { |i| Ractor.new(i) { |x| (1..20_000).map { |k| (k * x).to_s }.map(&:to_i).sum } }
    .map(&:take) == (1..4).map { |i| i * 20_000 * 20_001 / 2 }
end

check 'collections' do
  spin = Thread.new { x = 0; loop { x += 1 } }
  ok = threads(10) { |i| a = []; 2000.times { |k| a << "text #{k}" * 3; a.shift if a.size > 100 }; a.size }
  GC.start
  GC.compact if GC.respond_to?(:compact)
  spin.kill.join
  ok.all? { |n| n == 100 }
end

check 'sockets' do
  server = TCPServer.new('127.0.0.1', 0)
  accepting = Thread.new { 40.times { s = server.accept; Thread.new { s.puts s.gets.upcase; s.close } } }
  ok = threads(40) do |i|
    s = TCPSocket.new('127.0.0.1', server.addr[1])
    s.puts "hello #{i}"
    s.gets == "HELLO #{i}\n"
  end
  accepting.join
  blocked = Thread.new { begin; server.accept; rescue IOError; :closed; end }
  Thread.pass until blocked.stop?
  server.close
  ok.all? && blocked.value == :closed && Addrinfo.tcp('localhost', 80).ipv4?.!.!.nil?.!
end

check 'children' do
  out = threads(8) { |i| Open3.capture2('cat', stdin_data: "text #{i}").first == "text #{i}" }
  pid = fork { exit!(Thread.new { 7 }.value) }
  _, status = Process.wait2(pid)
  out.all? && status.exitstatus == 7 && `echo $((6 * 7))` == "42\n"
end

check 'signals' do
  got = Queue.new
  trap('USR1') { got << 1 }
  threads(5) { Process.kill('USR1', Process.pid); sleep 0.01 }
  Timeout.timeout(10) { got.pop } == 1
end

at_exit { puts 'at the end' }
Thread.new { sleep }
Thread.new { loop {} }
