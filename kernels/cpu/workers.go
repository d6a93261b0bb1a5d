package cpu

import (
	"sync"
	"sync/atomic"
)

// parallel calls do(worker, task) once for each task on at most workers
// goroutines, the caller being one. Which worker gets a task is open, so a task
// must not depend on it except for scratch memory.
func parallel(workers, tasks int, do func(worker, task int)) {
	workers = min(workers, tasks)
	if workers <= 1 {
		for t := range tasks {
			do(0, t)
		}
		return
	}
	var next atomic.Int64
	work := func(w int) {
		for {
			t := int(next.Add(1)) - 1
			if t >= tasks {
				return
			}
			do(w, t)
		}
	}
	var wg sync.WaitGroup
	for w := 1; w < workers; w++ {
		wg.Go(func() { work(w) })
	}
	work(0)
	wg.Wait()
}
