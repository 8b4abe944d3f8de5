// The hook tools of Juju itself, over a world that lies in a file.
//
// The program runs as whichever tool its name is: its folder, with one link a tool, is first on PATH of a hook.
// FAKEJUJU_DIR has world.json (what Juju's controller would know), txn.json (what is written once the hook ends well)
// and calls.jsonl (one line a call).
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/juju/cmd/v3"

	"github.com/juju/juju/internal/worker/uniter/runner/jujuc"
)

func main() {
	code, err := run(filepath.Base(os.Args[0]), os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "hook tool of the test: %v\n", err)
		os.Exit(70)
	}
	os.Exit(code)
}

// call is a line of calls.jsonl.
type call struct {
	Time   float64  `json:"time"`
	Tool   string   `json:"tool"`
	Args   []string `json:"args"`
	Stdin  string   `json:"stdin,omitempty"`
	Exit   int      `json:"exit"`
	Stdout string   `json:"stdout,omitempty"`
	Stderr string   `json:"stderr,omitempty"`
}

func run(tool string, args []string) (int, error) {
	folder := os.Getenv("FAKEJUJU_DIR")
	lock, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return 0, err
	}
	w, err := load(folder)
	if err != nil {
		return 0, err
	}
	done := call{Time: float64(time.Now().UnixMilli()) / 1000, Tool: tool, Args: args}
	if f := w.fault(tool); f != nil {
		time.Sleep(time.Duration(f.DelayMS) * time.Millisecond)
		if f.Exit != 0 {
			fmt.Fprintln(os.Stderr, f.Stderr)
			done.Exit, done.Stderr = f.Exit, f.Stderr
			return f.Exit, w.save(folder, done)
		}
	}
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		// Closed, as the tools that read nothing may find it.
		stdin = nil
	}
	done.Stdin = string(stdin)
	command, err := jujuc.NewCommand(&context{world: w, tool: tool}, tool)
	if err != nil {
		return 0, err
	}
	here, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	var stdout, stderr bytes.Buffer
	done.Exit = cmd.Main(command, &cmd.Context{Dir: here, Stdin: bytes.NewReader(stdin), Stdout: &stdout, Stderr: &stderr}, args)
	os.Stdout.Write(stdout.Bytes())
	os.Stderr.Write(stderr.Bytes())
	done.Stdout, done.Stderr = stdout.String(), stderr.String()
	return done.Exit, w.save(folder, done)
}

func write(path string, value any) error {
	text, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
