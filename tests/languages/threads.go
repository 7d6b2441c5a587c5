// SPDX-License-Identifier: MIT
//
// threads.go: goroutines that lock, call C and allocate, a fault that becomes a panic, and
// names and users by libc's functions, which make the program a dynamic one.

package main

// #include <unistd.h>
// static int twice(int x) { usleep(100); return 2 * x; }
import "C"

import (
	"fmt"
	"net"
	"os/user"
	"runtime"
	"sync"
)

func all(n int, body func(i int)) {
	var group sync.WaitGroup
	for i := 0; i < n; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			body(i)
		}(i)
	}
	group.Wait()
}

func main() {
	var lock sync.Mutex
	count := 0
	all(1000, func(int) {
		for i := 0; i < 100; i++ {
			lock.Lock()
			count++
			lock.Unlock()
		}
	})
	fmt.Println("locks", count)
	all(50, func(i int) {
		if int(C.twice(C.int(i))) != 2*i {
			panic("twice")
		}
	})
	fmt.Println("calls of C")
	go func() {
		for {
		}
	}()
	all(20, func(int) {
		var kept [][]byte
		for i := 0; i < 3000; i++ {
			kept = append(kept, make([]byte, 1000))
			if len(kept) > 50 {
				kept = nil
			}
		}
	})
	runtime.GC()
	fmt.Println("garbage")
	func() {
		defer func() { fmt.Println("fault", recover() != nil) }()
		var p *int
		*p = 1
	}()
	_, err := user.Current()
	fmt.Println("user", err)
	names, err := net.LookupHost("localhost")
	fmt.Println("names", len(names) > 0, err)
}
