// SPDX-License-Identifier: MIT

// bench.go: bench.c's measurements, with goroutines and package sync.
//
// usage: bench MEASUREMENT [COUNT]
// prints one line "FIGURE NUMBER" for each figure, as bench.c does.
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	minTime     = 200 * time.Millisecond // a measurement grows until it takes so long
	nContenders = 8
	contendTime = 300 * time.Millisecond
	settleTime  = 300 * time.Millisecond
)

// perOperation returns ns, of the first batch that takes minTime; smaller ones warm up.
func perOperation(batch func(n int)) float64 {
	for n := 1000; ; n *= 4 {
		begin := time.Now()
		batch(n)
		if took := time.Since(begin); took >= minTime {
			return float64(took.Nanoseconds()) / float64(n)
		}
	}
}

// A goroutine cannot be joined: it says that it ends, as Go programs do.
func createJoin(int) {
	fmt.Printf("create_join %.1f\n", perOperation(func(n int) {
		var ended sync.WaitGroup
		for ; n > 0; n-- {
			ended.Add(1)
			go ended.Done()
			ended.Wait()
		}
	}))
}

func createAllThenJoin(n int) float64 {
	var ended sync.WaitGroup
	begin := time.Now()
	ended.Add(n)
	for i := 0; i < n; i++ {
		go ended.Done()
	}
	ended.Wait()
	return float64(time.Since(begin).Nanoseconds()) / float64(n)
}

func createMany(n int) {
	fmt.Printf("create_many_first %.1f\n", createAllThenJoin(n))
	fmt.Printf("create_many_warm %.1f\n", createAllThenJoin(n))
}

// n yields in all, by two goroutines in turn.
func yieldBatch(n int) {
	var here, ended sync.WaitGroup
	here.Add(2)
	ended.Add(2)
	for i := 0; i < 2; i++ {
		go func() {
			here.Done()
			here.Wait()
			for j := 0; j < n/2; j++ {
				runtime.Gosched()
			}
			ended.Done()
		}()
	}
	ended.Wait()
}

func yield(int) {
	fmt.Printf("yield %.2f\n", perOperation(yieldBatch))
}

// n round trips between two goroutines, while main only waits.
func pingPongBatch(n int) {
	var lock sync.Mutex
	var ended sync.WaitGroup
	turned := [2]*sync.Cond{sync.NewCond(&lock), sync.NewCond(&lock)}
	turn := 0 // under lock: whose turn it is
	play := func(me int) {
		lock.Lock()
		for i := 0; i < n; i++ {
			for turn != me {
				turned[me].Wait()
			}
			turn = 1 - me
			turned[1-me].Signal()
		}
		lock.Unlock()
		ended.Done()
	}
	ended.Add(2)
	go play(0)
	go play(1)
	ended.Wait()
}

func pingPong(int) {
	fmt.Printf("ping_pong %.1f\n", perOperation(pingPongBatch))
}

var (
	theLock    sync.Mutex
	theCounter int // under theLock
)

func uncontended(int) {
	fmt.Printf("uncontended %.2f\n", perOperation(func(n int) {
		ended := make(chan bool)
		go func() {
			for ; n > 0; n-- {
				theLock.Lock()
				theLock.Unlock()
			}
			ended <- true
		}()
		<-ended
	}))
}

func contended(int) {
	var enough atomic.Bool
	var ended sync.WaitGroup
	had := make([]int, nContenders)
	begin := time.Now()
	ended.Add(nContenders)
	for i := range had {
		go func(mine *int) {
			n := 0
			for !enough.Load() {
				theLock.Lock()
				theCounter++
				theLock.Unlock()
				n++
			}
			*mine = n
			ended.Done()
		}(&had[i])
	}
	time.Sleep(contendTime)
	enough.Store(true)
	took := time.Since(begin)
	ended.Wait()
	sum, sumOfSquares := 0.0, 0.0
	for _, n := range had {
		sum += float64(n)
		sumOfSquares += float64(n) * float64(n)
	}
	if sum != float64(theCounter) {
		fail("additions were lost")
	}
	fmt.Printf("contended %.3f\n", sum*1e3/float64(took.Nanoseconds()))
	fmt.Printf("contended_fairness %.3f\n", sum*sum/(nContenders*sumOfSquares))
}

// getToken reads how many hops are left; putToken writes it.
func getToken(in *os.File) int64 {
	var bytes [8]byte
	if _, err := in.Read(bytes[:]); err != nil {
		fail(err.Error())
	}
	return int64(binary.LittleEndian.Uint64(bytes[:]))
}

func putToken(out *os.File, left int64) {
	var bytes [8]byte
	binary.LittleEndian.PutUint64(bytes[:], uint64(left))
	if _, err := out.Write(bytes[:]); err != nil {
		fail(err.Error())
	}
}

// hopsInRing returns ns for each hop in a ring of n goroutines, which have no end.
func hopsInRing(n int) float64 {
	newPipe := func() (in, out *os.File) {
		in, out, err := os.Pipe()
		if err != nil {
			fail(err.Error())
		}
		return in, out
	}
	raiseDescriptorLimit()
	lastIn, lastOut := newPipe()
	passOn := func(in, out *os.File) {
		for {
			if left := getToken(in); left > 0 {
				putToken(out, left-1)
			} else {
				putToken(lastOut, left-1)
			}
		}
	}
	in, first := newPipe()
	for ; n > 1; n-- {
		nextIn, out := newPipe()
		go passOn(in, out)
		in = nextIn
	}
	go passOn(in, first)
	return perOperation(func(n int) {
		putToken(first, int64(n-1))
		getToken(lastIn)
	})
}

func pipePingPong(int) {
	fmt.Printf("pipe_ping_pong %.1f\n", 2*hopsInRing(2))
}

func pipeRing(n int) {
	fmt.Printf("pipe_ring %.1f\n", hopsInRing(n))
}

// Go 1.19 and later raise the limit by themselves, but not in every version.
func raiseDescriptorLimit() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
}

// echo serves as samples/echo does, until a signal ends it; samples/client measures.
func echo(int) {
	raiseDescriptorLimit()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		fail(err.Error())
	}
	fmt.Printf("echo: listening on %s\n", listener.Addr())
	for {
		connection, err := listener.Accept()
		if err != nil {
			fail(err.Error())
		}
		go func() {
			defer connection.Close()
			var buffer [1024]byte
			for {
				n, err := connection.Read(buffer[:])
				if err != nil {
					return
				}
				if _, err := connection.Write(buffer[:n]); err != nil {
					return
				}
			}
		}()
	}
}

// readField returns the number after a name at the start of a line, or 0.
func readField(path, name string) int {
	file, err := os.Open(path)
	if err != nil {
		fail(err.Error())
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 1 && fields[0] == name {
			value, _ := strconv.Atoi(fields[1])
			return value
		}
	}
	return 0
}

type memory struct{ rss, pageTables, kernelStack, slab int } // KiB, as in bench.c

func memoryNow() memory {
	return memory{
		readField("/proc/self/status", "VmRSS:"),
		readField("/proc/self/status", "VmPTE:"),
		readField("/proc/meminfo", "KernelStack:"),
		readField("/proc/meminfo", "Slab:"),
	}
}

func sleepers(n int) {
	var nAsleep atomic.Int64
	peak := 0
	look := func() {
		if threads := readField("/proc/self/status", "Threads:"); threads > peak {
			peak = threads
		}
	}
	before := memoryNow()
	begin := time.Now()
	for i := 0; i < n; i++ {
		go func() {
			nAsleep.Add(1)
			time.Sleep(time.Hour)
		}()
		if i%10000 == 0 {
			look()
		}
	}
	for nAsleep.Load() < int64(n) {
		time.Sleep(time.Millisecond)
	}
	took := time.Since(begin)

	time.Sleep(settleTime)
	after := memoryNow()
	bytes := func(after, before int) float64 {
		return float64(after-before) * 1024 / float64(n)
	}
	rss := bytes(after.rss, before.rss)
	pageTables := bytes(after.pageTables, before.pageTables)
	kernelStack := bytes(after.kernelStack, before.kernelStack)
	slab := bytes(after.slab, before.slab)
	look()
	fmt.Printf("sleepers %d\n", n)
	fmt.Printf("sleepers_create %.1f\n", float64(took.Nanoseconds())/float64(n))
	fmt.Printf("sleepers_memory %.0f\n", rss+pageTables+kernelStack+slab)
	fmt.Printf("sleepers_rss %.0f\n", rss)
	fmt.Printf("sleepers_page_tables %.0f\n", pageTables)
	fmt.Printf("sleepers_kernel_stack %.0f\n", kernelStack)
	fmt.Printf("sleepers_slab %.0f\n", slab)
	fmt.Printf("sleepers_kernel_threads %d\n", peak)
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, "bench:", why)
	os.Exit(1)
}

func main() {
	measurements := map[string]struct {
		run func(n int)
		n   int // if none is given
	}{
		"create_join":    {createJoin, 0},
		"create_many":    {createMany, 10000},
		"yield":          {yield, 0},
		"ping_pong":      {pingPong, 0},
		"uncontended":    {uncontended, 0},
		"contended":      {contended, 0},
		"pipe_ping_pong": {pipePingPong, 0},
		"pipe_ring":      {pipeRing, 1000},
		"echo":           {echo, 0},
		"sleepers":       {sleepers, 100000},
	}
	if len(os.Args) < 2 {
		fail("usage: bench MEASUREMENT [COUNT]")
	}
	m, ok := measurements[os.Args[1]]
	if !ok {
		fail("usage: bench MEASUREMENT [COUNT]")
	}
	if len(os.Args) > 2 {
		m.n, _ = strconv.Atoi(os.Args[2])
	}
	m.run(m.n)
}
