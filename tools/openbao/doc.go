// Package openbao runs the engine under OpenBao's own plugin host: the code of
// OpenBao's sdk by which its server starts a plugin, passes requests to it and
// serves it storage. OpenBao's server itself is tested by make test-openbao,
// where there is one.
package openbao
