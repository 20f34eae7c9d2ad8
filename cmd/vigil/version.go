package main

import "runtime/debug"

// version is the release; the build's revision comes from the toolchain.
const version = "0.1.0-dev"

type versionCmd struct{}

func (versionCmd) Run(env *environment) error {
	v := struct {
		Version  string `json:"version"`
		Revision string `json:"revision"`
		Go       string `json:"go"`
	}{Version: version}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.Go = info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Revision = s.Value
			}
		}
	}
	return env.print(v, "vigil %s %s %s\n", v.Version, v.Revision, v.Go)
}
