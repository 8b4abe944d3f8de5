// Sleep-train stands in for a training program on machines that cannot hold a real training image. It trains
// nothing: it sleeps as long as it is told, says so once a second, and exits with the code it is told.
//
//	sleep-train [SECONDS [EXIT-CODE]]
//
// Without arguments TRAIN_SECONDS (default 5) and TRAIN_EXIT_CODE (default 0) count. It prints the
// environment that the torch runtime gives to torchrun (PET_…), so that logs show what would have been run.
// SIGTERM ends it with 143, as a shell would report it.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	seconds := number(1, "TRAIN_SECONDS", 5)
	code := number(2, "TRAIN_EXIT_CODE", 0)
	for _, variable := range os.Environ() {
		if strings.HasPrefix(variable, "PET_") {
			fmt.Println(variable)
		}
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	for passed := range seconds {
		fmt.Printf("step %d of %d\n", passed+1, seconds)
		select {
		case <-time.After(time.Second):
		case <-end:
			fmt.Println("told to end")
			os.Exit(143)
		}
	}
	fmt.Printf("done, exit code %d\n", code)
	os.Exit(code)
}

// number is an argument, else an environment variable, else the fallback. What is no number ends the
// program: a test that mistypes must not pass.
func number(argument int, variable string, fallback int) int {
	text := os.Getenv(variable)
	if len(os.Args) > argument {
		text = os.Args[argument]
	}
	if text == "" {
		return fallback
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < 0 {
		fmt.Fprintf(os.Stderr, "sleep-train: %q is no whole number from 0\n", text)
		os.Exit(2)
	}
	return value
}
