// Reads a packed charm as Juju's own library does, and prints what it found.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"

	"github.com/juju/charm/v12"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(path string) error {
	archive, err := charm.ReadCharmArchive(path)
	if err != nil {
		return err
	}
	meta := archive.Meta()
	if err := charm.CheckMeta(archive); err != nil {
		return err
	}
	members, err := archive.ArchiveMembers()
	if err != nil {
		return err
	}
	var options, actions, containers []string
	for name := range archive.Config().Options {
		options = append(options, name)
	}
	for name := range archive.Actions().ActionSpecs {
		actions = append(actions, name)
	}
	for name := range meta.Containers {
		containers = append(containers, name)
	}
	sort.Strings(options)
	sort.Strings(actions)
	sort.Strings(containers)
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"name":       meta.Name,
		"members":    members.SortedValues(),
		"options":    options,
		"actions":    actions,
		"containers": containers,
		"bases":      len(archive.Manifest().Bases),
		"format":     int(charm.MetaFormat(archive)),
	})
}
