// Package env finds the Python interpreters of this machine and turns a
// function's requirements into a cached virtual environment.
//
// # Interpreters
//
// Interpreters lists CPython executables from the configured default, PATH,
// pyenv and the usual folders. What an executable is (version, ABI) is asked
// once, by starting it, and remembered in the cache folder under its path,
// modification time and size; so choosing the default is a few stat calls and
// one small file. A pyenv shim is resolved by pyenv's own rules without running
// it. An executable inside a virtual environment keeps its path (its packages
// belong to it); any other symbolic link is followed to the real file.
//
// # Environments
//
// A request is an interpreter and requirement lines. Its key is a digest of the
// interpreter's identity and the normalised lines. The first time, pip resolves
// the lines (dry run with a report) to a lock: name==version with the hash of
// each file. The environment's folder is named by the digest of interpreter and
// lock, so two spellings of the same thing share it. Later the key alone leads
// to the folder: two file reads, no process.
//
// Layout below the folder given to New:
//
//	<digest>/                   a virtual environment
//	<digest>/millrace-env.json  written last: without it the folder is half-built
//	locks/<key>.json            the lock that a request resolved to
//	logs/<key>.log              what the last build for a request printed
//	busy/<name>.lock            flock files: key-<key> and env-<digest>
//
// Builds happen at the final path, because scripts of a virtual environment
// carry absolute paths. The exclusive flock on env-<digest> is held by the
// builder and inherited by the pip process it runs, so the lock is free only
// when neither lives; whoever gets it next removes what is half-built. In one
// process any number of callers share one build, which is cancelled when the
// last of them leaves. Users of an environment hold the same file shared (Use),
// which is what keeps Prune away.
//
// A failure is explained in one sentence and never remembered: the next call
// tries again.
//
// pip is found in this order: the interpreter's own if recent enough, the wheel
// that ensurepip bundles, a wheel in the configured find-links folders, a wheel
// from the configured package index. It always runs inside the environment it
// works on, and reads the machine's own pip configuration.
package env
